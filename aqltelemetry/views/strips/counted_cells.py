"""Computes the figures of cells by counting, several times as fast as by sorting.

Only the compiled twin does; without it, durations are sorted. Percentiles are exact too: the
durations of each cell are counted in buckets; this shows in which bucket a percentile lies, and
only the durations in these buckets are copied and sorted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rows import Rows
from aqltelemetry.system.extensions import load
from aqltelemetry.views.strips.cells import (
    CELL_SHARES,
    FINEST_SCALE,
    TOTAL_SHARES,
    Cells,
    Floats,
    Grid,
    Heat,
    Integers,
    Span,
    between,
    buckets_of,
    edges,
)

compiled: Any = load(__name__)
"""The compiled twin, or None."""
_Counts = npt.NDArray[np.int32]
_MAX_BUCKETS = 1024
_MAX_COUNTERS = 1 << 26
_MIN_ROWS = 50_000
_ROWS_PER_THREAD = 500_000
_MAX_THREADS = 4
_FEW = 256
_PER_POWER = 2**FINEST_SCALE
_LOW_COLUMNS, _HIGH_COLUMNS = slice(0, None, 2), slice(1, None, 2)


class Part(NamedTuple):
    """Rows with the groups of their labels and processes.

    `label_groups` has two columns, of all requests and of the route, and `process_groups` one;
    -1 for none. A row belongs to the group of its process only if it is a request.
    """

    rows: Rows
    label_groups: _Counts
    process_groups: _Counts


def is_available() -> bool:
    """Return whether there is a compiled twin."""
    return compiled is not None


def is_faster(rows: int, shape: tuple[int, int, int]) -> bool:
    """Return whether to count so many rows in groups and bins, instead of sorting them."""
    counters = shape[0] * shape[1] * _MAX_BUCKETS
    return is_available() and rows >= _MIN_ROWS and counters <= _MAX_COUNTERS


def count_labels(  # noqa: PLR0913, PLR0917 - what it adds to are arguments too
    rows: Rows,
    names: _Counts,
    window: Grid,
    span: Span,
    counts: Integers,
    lowest: Floats,
    highest: Floats,
) -> None:
    """Add to the numbers of rows by name and bin, and extend the range of values of each name."""
    times, values, labels, _ = _columns(rows)
    bins = compiled.Window(*span, *window)
    compiled.count_labels(bins, times, values, labels, names, counts, lowest, highest)


def _columns(rows: Rows) -> tuple[Any, Any, Any, Any]:
    return (
        np.ascontiguousarray(rows.timepoints_ns),
        np.ascontiguousarray(rows.measurements),
        np.ascontiguousarray(rows.label_codes).view(np.uint8),
        np.ascontiguousarray(rows.process_codes).view(np.uint8),
    )


def count_cells(
    parts: Sequence[Part],
    window: Grid,
    span: Span,
    shape: tuple[int, int, int],
    ranges: Sequence[tuple[float, float]],
) -> Cells:
    """Return the figures of groups in bins.

    Args:
        parts: The rows.
        window: The bins.
        span: The time that counts.
        shape: The numbers of groups, of bins, and of groups with totals and heat maps.
        ranges: The shortest and the longest duration of each of the latter.
    """
    return _Counter(parts, window, span, shape, ranges).cells()


class _Counter:
    def __init__(
        self,
        parts: Sequence[Part],
        window: Grid,
        span: Span,
        shape: tuple[int, int, int],
        ranges: Sequence[tuple[float, float]],
    ) -> None:
        self._window = compiled.Window(*span, *window)
        self._shares = [
            [
                compiled.Part(*_columns(part.rows), part.label_groups, part.process_groups)
                for part in share
            ]
            for share in _for_threads(parts)
        ]
        self._groups, self._bins, self._drawn = shape
        self._ranges = ranges
        known = [each for each in ranges if each[0] <= each[1]] or [(1.0, 1.0)]
        bounds = min(low for low, _ in known), max(high for _, high in known)
        self._first, last = buckets_of(*bounds, FINEST_SCALE)
        self._buckets = min(last + 1 - self._first, _MAX_BUCKETS)

    def cells(self) -> Cells:
        grid = (self._groups, self._bins)
        found = _at_once(self._count, [(share,) for share in self._shares])
        counts = [each for each, _ in found]
        largest = np.maximum.reduce([each for _, each in found]).reshape(grid)
        totals = [self._drawn_groups(each).sum(axis=1, dtype=np.int32) for each in counts]
        all_counts = _sum(counts)
        by_cell = _Ranks(all_counts, CELL_SHARES, 0, first_only=self._drawn * self._bins)
        by_group = _Ranks(_sum(totals), TOTAL_SHARES, by_cell.end)
        values = np.empty(by_group.end)
        places = by_cell.places_after(counts), by_group.places_after(totals)
        tasks = [(*each, values) for each in zip(self._shares, *places, strict=True)]
        _at_once(self._gather, tasks)
        by_cell.sort(values)
        by_group.sort(values)
        p50_s, p90_s, p99_s = by_cell.quantiles(values).T.reshape(-1, *grid)
        sums = by_cell.sums.reshape(grid)
        return Cells(
            sums,
            p50_s,
            p90_s,
            p99_s,
            np.where(sums > 0, largest, np.nan),
            by_group.quantiles(values).tolist(),
            list(map(self._heat, self._drawn_groups(all_counts), self._ranges)),
        )

    def _drawn_groups(self, counts: _Counts) -> _Counts:
        """Return the counts of the groups with totals and heat maps, by group, bin, bucket."""
        drawn = counts[: self._drawn * self._bins]
        return drawn.reshape(self._drawn, self._bins, self._buckets)

    def _count(self, parts: Sequence[Any]) -> tuple[_Counts, Floats]:
        """Return how many values each cell has in each bucket, and its largest value."""
        size = self._groups * self._bins
        counts: _Counts = np.zeros((size, self._buckets), np.int32)
        largest = np.full(size, -np.inf)
        for part in parts:
            compiled.count(self._window, part, self._first, counts, largest)
        return counts, largest

    def _gather(self, parts: Sequence[Any], cells: _Counts, groups: _Counts, out: Floats) -> None:
        for part in parts:
            compiled.gather(self._window, part, self._first, cells, groups, out)

    def _heat(self, counts: _Counts, bounds: tuple[float, float]) -> Heat:
        """Join the buckets of a group to those of its heat map."""
        if bounds[0] > bounds[1]:
            return Heat(np.empty(0), np.empty((self._bins, 0), dtype=np.int64))
        edges_s, first, scale = edges(*bounds)
        numbers = first + np.arange(1, len(edges_s) - 1)
        inner = np.clip(numbers * 2 ** (FINEST_SCALE - scale) - self._first, 0, self._buckets)
        up_to = np.zeros((self._bins, self._buckets + 1), np.int64)
        np.cumsum(counts, axis=1, out=up_to[:, 1:])
        return Heat(edges_s, np.diff(up_to[:, [0, *inner.tolist(), self._buckets]], axis=1))


class _Ranks:
    """The places of percentiles in rows of counted values.

    Args:
        counts: How many values each row has in each bucket.
        shares: The percentiles, as numbers from 0 to 1.
        start: The first place for values that is free.
        first_only: How many rows have all percentiles; the others have only the last one.

    Attributes:
        sums: How many values each row has.
        end: The place after the last one.
    """

    def __init__(
        self, counts: _Counts, shares: Sequence[float], start: int, first_only: int | None = None
    ) -> None:
        self.sums: Integers = counts.sum(axis=1, dtype=np.int64)
        position = np.maximum(self.sums - 1, 0)[:, None] * np.array(shares)
        lower = np.floor(position)
        self._weight = position - lower
        self._counts = counts
        self._is_known = np.repeat(self.sums[:, None] > 0, len(shares), axis=1)
        if first_only is not None:
            self._is_known[first_only:, :-1] = False
        ranks = np.empty((len(counts), 2 * len(shares)), np.int64)
        ranks[:, _LOW_COLUMNS] = np.where(self._is_known, lower, -1)
        ranks[:, _HIGH_COLUMNS] = np.where(self._is_known, lower + (self._weight > 0), -1)
        self._buckets = np.zeros(ranks.shape, np.int32)
        self._offsets = np.zeros(ranks.shape, np.int32)
        self._places: _Counts = np.full(counts.shape, -1, np.int32)
        self.end: int = compiled.locate(
            counts, ranks, self._buckets, self._offsets, self._places, start
        )

    def places_after(self, counts: Sequence[_Counts]) -> list[_Counts]:
        """Return for each thread where its next value of each bucket is to be copied to.

        -1 for a bucket that is not needed. `counts` are those of each thread.
        """
        found, next_places = [], self._places
        for own in counts:
            found.append(next_places.copy())
            next_places = np.where(next_places >= 0, next_places + own, np.int32(-1))
        return found

    def sort(self, values: Floats) -> None:
        """Sort the values of each bucket, after all were copied."""
        needed = np.nonzero(self._places >= 0)
        starts, counts = self._places[needed], self._counts[needed]
        are_few = counts <= _FEW
        compiled.sort_runs(starts[are_few], counts[are_few], values)
        many = np.flatnonzero(~are_few)
        for start, count in zip(starts[many].tolist(), counts[many].tolist(), strict=True):
            values[start : start + count].sort()

    def quantiles(self, values: Floats) -> Floats:
        """Return the percentiles of each row, NaN for those that are not known."""
        starts = np.take_along_axis(self._places, self._buckets, axis=1)
        at = np.maximum(starts, 0) + self._offsets
        found: Floats = np.full(self._weight.shape, math.nan)
        if len(values):
            exact = between(values[at[:, _LOW_COLUMNS]], values[at[:, _HIGH_COLUMNS]], self._weight)
            found[self._is_known] = exact[self._is_known]
        return found


def _sum(counts: Sequence[_Counts]) -> _Counts:
    """Return the sum of counts, without a copy if there is one only."""
    return counts[0] if len(counts) == 1 else np.add.reduce(counts, dtype=np.int32)


def _for_threads(parts: Sequence[Part]) -> list[Sequence[Part]]:
    """Divide parts among threads, one if there are few rows."""
    rows = sum(len(part.rows) for part in parts)
    threads = min(len(os.sched_getaffinity(0)), rows // _ROWS_PER_THREAD, _MAX_THREADS, len(parts))
    return [parts[number :: max(threads, 1)] for number in range(max(threads, 1))]


def _at_once(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Do each task on a thread of its own; none of them holds the interpreter lock."""
    if len(tasks) == 1:
        return [work(*tasks[0])]
    with ThreadPoolExecutor(len(tasks), "aqltelemetry-strips") as pool:
        return list(pool.map(work, *zip(*tasks, strict=True)))
