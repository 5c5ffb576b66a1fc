"""Adds up the files of a recording in their order, as points of time series.

A point has the total of all observations until its time. For each label and interval there is one
point, at the time of the last observation of the interval. If a label pauses for longer than an
interval, its next point is preceded by one that repeats the value before, an interval earlier, so
that a rate over both of them is that of the interval. A label whose observations are counted
begins with a point of 0.

The points of a file follow from the file and from the totals before it. They are the same each
time that the file is read, so that sending them again changes nothing.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rows import Rows

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Total:
    """All values of a label until a time.

    Attributes:
        count: How many they are.
        sum: Their sum.
        min: The smallest one.
        max: The largest one.
        buckets: How many are in each bucket, by its number; empty buckets are left out.
    """

    count: int = 0
    sum: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    buckets: Mapping[int, int] = field(default_factory=dict)

    def plus(self, values: npt.NDArray[np.float64], numbers: npt.NDArray[Any]) -> Total:
        """Return the total with further values, which are in the buckets of these numbers."""
        buckets = dict(self.buckets)
        for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
            buckets[int(number)] = buckets.get(int(number), 0) + int(count)
        return Total(
            self.count + len(values),
            self.sum + float(values.sum()),
            min(self.min, float(values.min())),
            max(self.max, float(values.max())),
            buckets,
        )


class Point(NamedTuple):
    """A value at a time, in milliseconds since the epoch; a total, or the last value."""

    at_ms: int
    value: Total | float


class Steps(NamedTuple):
    """How observations are added up.

    Attributes:
        interval_ms: The length of an interval, in milliseconds.
        bucket_numbers: Returns the number of the bucket of each value.
        is_counted: Returns whether a label's observations are counted; else the last one counts.
        is_left_out: Returns whether a label has no points at all.
        has_anchors: Whether points that repeat the value before a pause are wanted.
    """

    interval_ms: int
    bucket_numbers: Callable[[npt.NDArray[np.float64]], npt.NDArray[Any]]
    is_counted: Callable[[str], bool] = lambda _: True
    is_left_out: Callable[[str], bool] = lambda _: False
    has_anchors: bool = True


class RecordingTotals:
    """The totals of the files of a prefix of a recording.

    Attributes:
        start_ns: When the first file begins, in nanoseconds since the epoch.
    """

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self._latest: dict[str, Point] = {}

    @property
    def labels(self) -> set[str]:
        """The labels that occurred."""
        return {*self._latest}

    @property
    def latest(self) -> Mapping[str, Point]:
        """The last point of each label."""
        return self._latest

    def add(self, rows: Rows, steps: Steps) -> dict[str, list[Point]]:
        """Add the observations of the next file; return its points by label, in order of time."""
        found: dict[str, list[Point]] = {}
        for label, times_ns, values in _by_step(rows, steps):
            before = self._latest.get(label)
            point = self._next(before, int(times_ns[-1]) // _NS_PER_MS, values, steps, label)
            points = found.setdefault(label, [])
            anchor = _anchor(before, point, steps.interval_ms)
            if anchor is not None and steps.has_anchors:
                points.append(anchor)
            points.append(point)
            self._latest[label] = point
        return found

    @staticmethod
    def _next(
        before: Point | None,
        at_ms: int,
        values: npt.NDArray[np.float64],
        steps: Steps,
        label: str,
    ) -> Point:
        if before is not None:
            # Times of later files may be a little earlier.
            at_ms = max(at_ms, before.at_ms + 1)
        if not steps.is_counted(label):
            return Point(at_ms, float(values[-1]))
        total = before.value if before is not None and isinstance(before.value, Total) else Total()
        return Point(at_ms, total.plus(values, steps.bucket_numbers(values)))

    def note(self) -> str:
        """Return a text from which `from_note` makes the same totals."""
        latest = {
            label: [at_ms, asdict(value) if isinstance(value, Total) else value]
            for label, (at_ms, value) in self._latest.items()
        }
        return json.dumps([self.start_ns, latest], separators=(",", ":"))

    @classmethod
    def from_note(cls, note: str) -> RecordingTotals:
        """Return the totals of a text that `note` has returned."""
        start_ns, latest = json.loads(note)
        made = cls(start_ns)
        for label, (at_ms, value) in latest.items():
            made._latest[label] = Point(at_ms, _total(value) if isinstance(value, dict) else value)
        return made


def _total(data: Mapping[str, Any]) -> Total:
    buckets = {int(number): count for number, count in data["buckets"].items()}
    return Total(**{**data, "buckets": buckets})


def _anchor(before: Point | None, point: Point, interval_ms: int) -> Point | None:
    """Return the point that precedes another one after a pause; None if there is none."""
    at_ms = point.at_ms - interval_ms
    if before is not None:
        return Point(at_ms, before.value) if at_ms > before.at_ms else None
    return Point(at_ms, Total()) if isinstance(point.value, Total) else None


def _by_step(
    rows: Rows, steps: Steps
) -> Iterator[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Yield the times and values of each label and interval, in order of time."""
    is_wanted = np.array([not steps.is_left_out(label) for label in rows.labels], bool)
    chosen = np.flatnonzero(~np.isnan(rows.measurements))
    if not is_wanted.all():
        chosen = chosen[is_wanted[rows.label_codes[chosen]]]
    codes, times = rows.label_codes[chosen], rows.timepoints_ns[chosen]
    order = np.lexsort((times, codes))
    codes, times, values = codes[order], times[order], rows.measurements[chosen][order]
    numbers = times // (steps.interval_ms * _NS_PER_MS)
    is_first = np.ones(len(codes), bool)
    is_first[1:] = (codes[1:] != codes[:-1]) | (numbers[1:] != numbers[:-1])
    starts = np.flatnonzero(is_first)
    for start, end in itertools.pairwise([*starts, len(codes)]):
        yield rows.labels[codes[start]], times[start:end], values[start:end]
