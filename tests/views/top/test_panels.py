"""The lines above the tables."""

from __future__ import annotations

from typing import Any

from aqltelemetry.views.top import panels
from fakes import EPOCH_NS


def _stall(**changes: Any) -> dict[str, Any]:
    stall = {
        "end_ns": EPOCH_NS,
        "length_s": 0.25,
        "cause": "blocking wait",
        "line": "/srv/orders/app.py:12",
        "function": "view",
        "pid": 7,
    }
    return stall | changes


def test_a_stall_is_a_line_with_the_letter_of_its_cause() -> None:
    line = panels.stalls([_stall()], 3, 120).plain
    assert line.startswith(" W ")
    assert line.endswith(" blocked for 250 ms: blocking wait at orders/app.py:12 in view, worker 7")


def test_a_stall_has_the_request_and_the_blocks_from_the_innermost_on() -> None:
    line = panels.stalls([_stall(route="/a [GET]", blocks=["load", "parse"])], 3, 160).plain
    assert ", in /a [GET], parse, load, worker" in line


def test_a_stall_without_a_line_has_its_cause_only() -> None:
    line = panels.stalls([_stall(line="", function="")], 3, 120).plain
    assert line.endswith(" blocked for 250 ms: blocking wait, worker 7")


def test_stalls_without_room_are_counted() -> None:
    lines = panels.stalls([_stall()] * 5, 3, 60).plain.split("\n")
    assert lines[-1] == "   3 earlier stalls"
    assert [len(line) <= 60 for line in lines] == [True] * 3
