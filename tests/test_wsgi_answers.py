"""That the compiled twin records an answer as the pure one does, whatever happens amid it."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry import wsgi_answers
from aqltelemetry.wsgi_answers import Requests
from twinned import RAISED, compiled_twin, raise_if_told, recorded


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    return compiled_twin("_wsgi_answers")


class _Body:
    """Chunks, of which one may be an exception's name; and a close that may fail."""

    def __init__(self, chunks: list[Any], closing: str) -> None:
        self._chunks = chunks
        self._closing = closing

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._chunks:
            raise_if_told(chunk)
            yield chunk

    def close(self) -> None:
        raise_if_told(self._closing)


class _File(_Body):
    """What a server sends by itself."""


def _answered(module: ModuleType, requests: Requests, story: dict[str, Any]) -> list[object]:
    """Be server and middleware of one request; tell what the server met."""
    trace: list[object] = []
    environ: dict[str, Any] = {"REQUEST_METHOD": story["method"], "wsgi.file_wrapper": _File}

    def start_response(*arguments: Any) -> str:
        trace.append(arguments)
        return "write"

    answer = module.Answer(requests, environ, start_response)
    try:
        for status, headers in story["starts"]:
            trace.append(answer.start(status, headers))
        raise_if_told(story["raises"])
        body = answer.watched(story["body"](story["chunks"], story["closing"]))
    except BaseException as exc:
        answer.fail()
        return [*trace, type(exc)]
    try:
        for number, chunk in enumerate(body):
            trace.append(chunk)
            if number == story["gone_after"]:
                raise_if_told(story["gone_by"])
    except BaseException as exc:
        trace.append(type(exc))
        if isinstance(exc, SystemExit):
            _closed(body, trace)  # as a server does, amid the exception
            return trace
    _closed(body, trace)
    return trace


def _closed(body: Any, trace: list[object]) -> None:
    try:
        body.close()
    except BaseException as exc:
        trace.append(("close", type(exc)))


_HEADERS = st.lists(
    st.sampled_from(
        [
            ("Content-Length", "2"),
            ("content-type", "text/event-stream"),
            ("Content-Type", "text/html"),
            ("X-Content-Type", "text/event-stream"),
        ]
    ),
    max_size=3,
)
_STATUSES = st.sampled_from(["200 OK", "404 Not Found", "503 Busy", "weird", ""])
_STORIES = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "INVENTED"]),
        "starts": st.lists(st.tuples(_STATUSES, _HEADERS), max_size=2),
        "raises": st.sampled_from(["well"] * 4 + [*RAISED]),
        "body": st.sampled_from([_Body, _Body, _File]),
        "chunks": st.lists(st.sampled_from([b"", b"x", b"xx", *RAISED]), max_size=4),
        "closing": st.sampled_from(["well"] * 4 + [*RAISED]),
        "gone_after": st.integers(0, 6),
        "gone_by": st.sampled_from(["gone", "exit"]),
    }
)


_DISCONNECT = "/x [GET] disconnect"


@settings(deadline=None)
@given(_STORIES)
def test_both_twins_make_the_same_of_an_answer(compiled: ModuleType, story: dict[str, Any]) -> None:
    outcomes = []
    for module in (wsgi_answers, compiled):
        requests = Requests(lambda environ: "/x", with_ttfb=True)
        with recorded() as found:
            trace = _answered(module, requests, story)
        outcomes.append((trace, found, requests.in_flight.gauge.value))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][2] == 0


@pytest.mark.parametrize("twin", ["pure", "compiled"])
@pytest.mark.parametrize(
    ("length", "gone_by", "outcome"),
    [("2", "exit", []), ("3", "exit", [_DISCONNECT]), ("2", "gone", [_DISCONNECT])],
)
def test_a_worker_told_to_quit_when_all_was_sent_had_its_client_until_then(
    compiled: ModuleType, twin: str, length: str, gone_by: str, outcome: list[str]
) -> None:
    story = {
        "method": "GET",
        "starts": [("200 OK", [("Content-Length", length)])],
        "raises": "well",
        "body": _Body,
        "chunks": [b"x", b"x"],
        "closing": "well",
        "gone_after": 1,
        "gone_by": gone_by,
    }
    with recorded() as found:
        _answered(
            compiled if twin == "compiled" else wsgi_answers,
            Requests(lambda environ: "/x", with_ttfb=False),
            story,
        )
    assert found == [(label, 1) for label in ["/x [GET]", *outcome]]
