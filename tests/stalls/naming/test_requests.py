"""A request is named by the arguments of the functions that handle it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aqltelemetry.stalls.naming import requests
from aqltelemetry.stalls.naming.requests import (
    JOIN,
    NamedRequests,
    argument_of,
    joined,
    name_requests,
)


class _Request:
    def __init__(self, label: str) -> None:
        self.label = label

    def __del__(self) -> None:
        _freed_on.append(threading.get_ident())


_freed_on: list[int] = []


def _name(value: object) -> str:
    if not isinstance(value, _Request):
        return ""
    if value.label == "broken":
        raise ValueError
    return value.label


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "NAMES", {})
    name_requests("planted", lambda _: "")
    name_requests("planted", _name)
    _freed_on.clear()


def test_the_first_argument_with_a_registered_name_may_be_a_request() -> None:
    def handler(first: int, planted: object) -> None:
        other = planted  # noqa: F841 - a local variable is no argument

    def without(first: int) -> None:
        planted = first  # noqa: F841 - as above

    assert argument_of(handler.__code__) == "planted"
    assert argument_of(without.__code__) == ""
    assert argument_of(JOIN) == "self"


def test_the_outermost_request_with_a_label_counts() -> None:
    found = [("planted", _Request("")), ("planted", _Request("outer")), ("planted", _Request("in"))]
    assert NamedRequests().name(found) == "outer"


def test_a_label_that_is_not_known_yet_is_looked_for_again() -> None:
    names, request = NamedRequests(), _Request("")
    assert names.name([("planted", request)]) == ""
    request.label = "/users/{id} [GET]"
    assert names.name([("planted", request)]) == "/users/{id} [GET]"


def test_a_name_that_raises_is_none() -> None:
    assert NamedRequests().name([("planted", _Request("broken"))]) == ""
    assert NamedRequests().name([("self", _Request("of a thread"))]) == ""


def test_the_last_reference_to_a_request_is_dropped_on_the_thread_of_its_loop() -> None:
    async def main() -> int:
        loop, names = asyncio.get_running_loop(), NamedRequests()

        def look() -> None:
            names.name([("planted", _Request("/"))])
            names.give_back(loop)

        await asyncio.to_thread(look)
        await asyncio.sleep(0)
        return threading.get_ident()

    assert [asyncio.run(main())] == _freed_on


def test_requests_of_a_loop_that_is_closed_are_dropped() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    names = NamedRequests()
    names.name([("planted", _Request("/"))])
    names.give_back(loop)
    assert len(_freed_on) == 1


def test_a_thread_is_named_while_its_end_is_waited_for() -> None:
    thread = threading.Thread(name="helper")
    assert joined([JOIN], [("self", thread)]) == "thread helper"
    assert joined([test_a_name_that_raises_is_none.__code__], [("self", thread)]) == ""
