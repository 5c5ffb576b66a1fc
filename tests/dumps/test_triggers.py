"""Conditions on snapshots of the last minute."""

from __future__ import annotations

from typing import Any

import pytest

from aqltelemetry.conditions import parse_conditions
from aqltelemetry.dumps.triggers import LEAST_COUNT, Triggers
from aqltelemetry.views.live.totals import totals
from aqltelemetry.views.live.window import Snapshot


def _worker(pid: int = 1, state: str = "running", **figures: Any) -> dict[str, Any]:
    row = {"pid": pid, "writer": f"w{pid}", "state": state, "lag_max_s": None, "rss_bytes": None}
    return {**row, "cpu_percent": None, "trend": [], **figures}


def _route(label: str = "/a [GET]", count: int = LEAST_COUNT, **figures: Any) -> dict[str, Any]:
    row = {"label": label, "count": count, "p50_s": 0.1, "p99_s": 0.2, "max_s": 0.3}
    return {**row, "errors_5xx": 0, "failures": 0, "trend": [], **figures}


def _snapshot(
    workers: list[dict[str, Any]] | None = None, routes: list[dict[str, Any]] | None = None
) -> Snapshot:
    workers, routes = workers or [], routes or []
    return Snapshot(0, 60, 60.0, routes, workers, [], totals(routes, workers, 60.0))


def _reasons(text: str, *snapshots: Snapshot, skips_first: bool = False) -> list[list[str]]:
    triggers = Triggers(parse_conditions(text), skips_first=skips_first)
    return [[each.reason for each in triggers.fired(snapshot)] for snapshot in snapshots]


@pytest.mark.parametrize(
    ("text", "row", "reason"),
    [
        ("lag > 0.5s", _worker(lag_max_s=0.777), "lag 777 ms of the event loop of process 1"),
        ("rss > 1g", _worker(rss_bytes=2.0**31), "rss 2 GiB of process 1"),
        ("p50 > 50ms", _route(), "median 100 ms of /a [GET]"),
        ("p99 /a [GET] > 0.1", _route(), "p99 200 ms of /a [GET]"),
        ("max /a [GET] > 0.1", _route(count=1), "longest 300 ms of /a [GET]"),
        ("5xx > 5%", _route(errors_5xx=2), "5xx 10.0% of all requests"),
        ("5xx /a [GET] > 5%", _route(errors_5xx=2), "5xx 10.0% of /a [GET]"),
    ],
)
def test_a_condition_fires_once_when_it_begins_to_hold(
    text: str, row: dict[str, Any], reason: str
) -> None:
    is_route = "label" in row
    there = _snapshot(routes=[row]) if is_route else _snapshot([row])
    found = _reasons(text, _snapshot(), there, there, _snapshot(), there)
    assert found == [[], [reason], [], [], [reason]]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("lag > 0.5s", _worker(lag_max_s=0.5)),
        ("rss > 1g", _worker(state="killed", rss_bytes=2.0**31)),
        ("p99 > 0.1", _route(count=LEAST_COUNT - 1)),
        ("p99 /b [GET] > 0.1", _route()),
        ("5xx > 5%", _route(errors_5xx=1)),
        ("5xx > 5%", _route(count=LEAST_COUNT - 1, errors_5xx=9)),
        ("5xx > 5%", _route(label="query", errors_5xx=9)),
    ],
)
def test_a_condition_that_does_not_hold_does_not_fire(text: str, row: dict[str, Any]) -> None:
    there = _snapshot(routes=[row]) if "label" in row else _snapshot([row])
    assert _reasons(text, there) == [[]]


def test_a_process_that_dies_fires_and_one_that_was_dead_does_not() -> None:
    first = _snapshot([_worker(1, "killed"), _worker(2)])
    second = _snapshot([_worker(1, "killed"), _worker(2, "killed")])
    assert _reasons("killed", first, second) == [[], ["killed process 2"]]


def test_what_holds_at_first_may_be_skipped() -> None:
    slow = _snapshot([_worker(lag_max_s=1.0)])
    assert _reasons("lag > 0.5s", slow, slow, _snapshot(), slow, skips_first=True)[:2] == [[], []]
    assert _reasons("lag > 0.5s", slow) == [["lag 1,000 ms of the event loop of process 1"]]
