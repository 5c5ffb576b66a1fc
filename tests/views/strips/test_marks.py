from __future__ import annotations

from collections.abc import Callable

from aqltelemetry import TelemetryDB
from aqltelemetry.views.strips import strips
from aqltelemetry.views.strips.marks import MAX_MARKS
from fakes import EPOCH_NS

Write = Callable[..., None]
Load = Callable[[], TelemetryDB]


def _marks(db: TelemetryDB) -> list[tuple[float, str, str]]:
    return [((at - EPOCH_NS) / 1e9, kind, text) for at, kind, _, text in strips(db).marks]


def test_a_worker_starts_and_stops_or_is_killed(write: Write, load: Load) -> None:
    for writer, pid, end in ("a", 7, 1), ("b", 8, 0), ("c", 9, None):
        write([(pid, 1.0, "x", pid), (pid + 20, 1.0, "x", pid)], "duration", writer)
        if end is not None:
            write([(pid + 20, end, "end", pid)], "account", writer)
    assert _marks(load()) == [
        (6, "start", "worker 7 starts"),
        (7, "start", "worker 8 starts"),
        (8, "start", "worker 9 starts"),
        (27, "stop", "worker 7 stops"),
        (28, "kill", "worker 8 was killed"),
    ]


def test_clock_steps_and_switches_are_events(write: Write, load: Load) -> None:
    write(
        [
            (1, 3.25, "telemetry clock step", 7),
            (2, 0.0, "telemetry switched on", 7),
            (3, 1.0, "telemetry switched on", 7),
        ],
        "runtime",
    )
    assert [mark for mark in _marks(load()) if mark[1] != "start"] == [
        (1, "clock step", "the clock of worker 7 stepped by +3.25 s"),
        (2, "switched off", "worker 7: recording switched off"),
        (3, "switched on", "worker 7: recording switched on"),
    ]


def test_each_increase_of_the_drops_is_an_event(write: Write, load: Load) -> None:
    label = "telemetry dropped no segment"
    samples = [(0, 1.0, "rss", 7), (1, 2.0, label, 7), (2, 2.0, label, 7), (3, 5.0, label, 7)]
    write(samples, "runtime")
    rows = [(2.5, 4, "dropped no segment", 7), (2, 1, "dropped torn", 7), (4, 2, "dropped torn", 7)]
    write([*rows, (5, 1.0, "accepted", 7)], "account")
    write([(9, 0.0, "x", 7)])
    assert [(at, text) for at, kind, text in _marks(load()) if kind == "drop"] == [
        (1, "worker 7 dropped 2 observations (no segment)"),
        (2, "worker 7 dropped 1 observation (torn)"),
        (2.5, "worker 7 dropped 2 observations (no segment)"),
        (3, "worker 7 dropped 1 observation (no segment)"),
        (4, "worker 7 dropped 2 observations (torn)"),
    ]


def test_the_most_important_events_are_kept_of_many(write: Write, load: Load) -> None:
    write([(0, 0.0, "x", pid) for pid in range(1, 300)])
    write([(0, 1.0, "telemetry clock step", 1)], "runtime")
    kinds = [kind for _, kind, _ in _marks(load())]
    assert len(kinds) == MAX_MARKS
    assert "clock step" in kinds
