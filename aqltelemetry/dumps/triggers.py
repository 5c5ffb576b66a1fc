"""Whether conditions hold in the last minute of a recording, and since which moment they do.

A condition that goes on to hold fires once, for each process or label that it holds for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from aqltelemetry.conditions import (
    ERRORS,
    KILLED,
    LAG,
    LONGEST,
    MEDIAN,
    P99,
    RSS,
    Condition,
)
from aqltelemetry.quantities import bytes_text, milliseconds
from aqltelemetry.reading import writers
from aqltelemetry.views.live.window import Snapshot

WINDOW_S = 60
"""The length of the window that conditions are about, in seconds."""
LEAST_COUNT = 20
"""How many durations of a label are needed for a percentile or a share of errors."""
_Row: TypeAlias = Mapping[str, Any]
_COLUMNS = {MEDIAN: "p50_s", P99: "p99_s", LONGEST: "max_s"}
_NAMES = {MEDIAN: "median", P99: "p99", LONGEST: "longest"}


class Fired(NamedTuple):
    """A condition that has begun to hold, and why, in words."""

    condition: Condition
    reason: str


class Triggers:
    """Looks at one snapshot after the other, and says which conditions have begun to hold.

    Args:
        conditions: The conditions.
        skips_first: Whether what holds in the first snapshot is left out. A process that was dead
            by then is left out anyway.
    """

    def __init__(self, conditions: Sequence[Condition], *, skips_first: bool = False) -> None:
        self._conditions = conditions
        self._skips_first = skips_first
        self._held: set[tuple[Condition, object]] | None = None

    def fired(self, snapshot: Snapshot) -> list[Fired]:
        """Return the conditions that hold, and did not hold in the snapshot before."""
        holding = {
            (condition, key): reason
            for condition in self._conditions
            if condition.measure in _MEASURES
            for key, reason in _MEASURES[condition.measure](condition, snapshot)
        }
        before = self._held
        if before is None:
            skipped = (each for each in holding if self._skips_first or each[0].measure == KILLED)
            before = set(skipped)
        self._held = set(holding)
        new = (each for each in holding.items() if each[0] not in before)
        return [Fired(condition, reason) for (condition, _), reason in new]


def _lag(condition: Condition, snapshot: Snapshot) -> Iterator[tuple[object, str]]:
    for row in _above(snapshot.workers, "lag_max_s", condition.limit):
        lag = milliseconds(row["lag_max_s"], 0)
        yield row["writer"], f"lag {lag} ms of the event loop of process {row['pid']}"


def _rss(condition: Condition, snapshot: Snapshot) -> Iterator[tuple[object, str]]:
    for row in _above(snapshot.workers, "rss_bytes", condition.limit):
        if row["state"] == writers.RUNNING:
            mib = bytes_text(int(row["rss_bytes"]) >> 20 << 20)
            yield row["writer"], f"rss {mib} of process {row['pid']}"


def _durations(condition: Condition, snapshot: Snapshot) -> Iterator[tuple[object, str]]:
    for row in _above(snapshot.routes, _COLUMNS[condition.measure], condition.limit):
        is_meant = not condition.label or row["label"] == condition.label
        if is_meant and (condition.measure == LONGEST or row["count"] >= LEAST_COUNT):
            length = milliseconds(row[_COLUMNS[condition.measure]], 0)
            yield row["label"], f"{_NAMES[condition.measure]} {length} ms of {row['label']}"


def _errors(condition: Condition, snapshot: Snapshot) -> Iterator[tuple[object, str]]:
    if condition.label:
        rows = [row for row in snapshot.routes if row["label"] == condition.label]
    else:
        rows = [row for row in snapshot.routes if row["label"].endswith("]")]
    count, failed = (sum(row[key] for row in rows) for key in ("count", "errors_5xx"))
    if count >= LEAST_COUNT and failed > condition.limit * count:
        of = condition.label or "all requests"
        yield condition.label, f"5xx {failed / count:.1%} of {of}"


def _killed(condition: Condition, snapshot: Snapshot) -> Iterator[tuple[object, str]]:
    del condition
    for row in snapshot.workers:
        if row["state"] == writers.KILLED:
            yield row["writer"], f"killed process {row['pid']}"


def _above(rows: Sequence[_Row], column: str, limit: float) -> Iterator[_Row]:
    return (row for row in rows if row[column] is not None and row[column] > limit)


_Measure: TypeAlias = Callable[[Condition, Snapshot], Iterator[tuple[object, str]]]
_MEASURES: Mapping[str, _Measure] = {
    LAG: _lag,
    RSS: _rss,
    MEDIAN: _durations,
    P99: _durations,
    LONGEST: _durations,
    ERRORS: _errors,
    KILLED: _killed,
}
