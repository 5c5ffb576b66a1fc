"""Sorts durations into cells, one for each group and time bin, for exact percentiles of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.system.clock import NS_PER_S

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_MS = 10**6
_S = NS_PER_S
_MIN, _H, _DAY = 60 * _S, 3600 * _S, 86400 * _S
_WIDTHS_NS = (
    *(factor * scale for scale in (_MS, 10 * _MS, 100 * _MS) for factor in (1, 2, 5)),
    *(factor * _S for factor in (1, 2, 5, 10, 15, 30)),
    *(factor * _MIN for factor in (1, 2, 5, 10, 15, 30)),
    *(factor * _H for factor in (1, 2, 3, 6, 12)),
)
_MAX_BUCKETS = 96
FINEST_SCALE = 4
"""The scale of the narrowest buckets: there are so many powers of 2 of them to a power of 2."""
CELL_SHARES = (0.5, 0.9, 0.99)
"""The percentiles of each cell."""
TOTAL_SHARES = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
"""The percentiles of all cells of a group together."""
_HALF = 0.5


class Span(NamedTuple):
    """A range of time: `begin_ns <= t < end_ns`, in nanoseconds since the epoch."""

    begin_ns: int
    end_ns: int


class Grid(NamedTuple):
    """Time bins of equal width, aligned to the epoch as those of `TelemetryDB.timeline` are."""

    begin_ns: int
    """The start of the first bin, in nanoseconds since the epoch."""
    width_ns: int
    bins: int

    @property
    def end_ns(self) -> int:
        """The end of the last bin."""
        return self.begin_ns + self.bins * self.width_ns

    def numbers(self, times_ns: Integers) -> Integers:
        """Return the bin of each time; below 0 or at least `bins` if it is outside."""
        return (times_ns - self.begin_ns) // self.width_ns


def grid(span: Span, max_bins: int) -> Grid:
    """Return the narrowest bins that cover a span with at most `max_bins`.

    Their width is 1, 2 or 5 ms, 10 ms ... 1, 2, 5, 10, 15 or 30 s or min, 1, 2, 3, 6 or 12 h, or
    whole days.
    """
    begin_ns, end_ns = span
    days = max(math.ceil((end_ns - begin_ns) / (max(max_bins - 1, 1) * _DAY)), 1)
    for width_ns in (*_WIDTHS_NS, days * _DAY):
        first = begin_ns // width_ns
        bins = max(-(-end_ns // width_ns) - first, 1)
        if bins <= max_bins:
            break
    return Grid(first * width_ns, width_ns, bins)


class Heat(NamedTuple):
    """How many observations of each bin fall into each bucket of durations."""

    edges_s: Floats
    """The h + 1 edges of h buckets in seconds, spaced evenly on a logarithmic scale.

    The first bucket also holds what is shorter, the last one what is longer.
    """
    counts: Integers
    """bins x h numbers of observations."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The figures of cells, which are groups x bins; NaN where a cell is empty or not asked for.

    The first groups have all of them, the other ones only `count`, `p99_s` and `max_s`.
    """

    count: Integers
    p50_s: Floats
    p90_s: Floats
    p99_s: Floats
    max_s: Floats
    totals_s: Sequence[Sequence[float]]
    """For each of the first groups, the percentiles `TOTAL_SHARES` of all of its bins together."""
    heats: Sequence[Heat]
    """Of the first groups."""


class SortedCells:
    """Durations grouped into cells, and sorted within each.

    Args:
        cells: The cell of each duration, from 0 to `size` - 1; n integers.
        values_s: The durations in seconds; n floats. NaN is left out.
        size: The number of cells.
    """

    def __init__(self, cells: Integers, values_s: Floats, size: int) -> None:
        known = np.isfinite(values_s)
        if not known.all():
            cells, values_s = cells[known], values_s[known]
        self._size = size
        # A duration is a whole number of nanoseconds. One integer that holds the cell, and the
        # duration in its lower bits, is sorted about ten times as fast as two columns are.
        self._shift = 63 - max(size.bit_length(), 1)
        self._keys = self._packed(cells, values_s)
        if self._keys is None:
            self._values_s = values_s[np.lexsort((values_s, cells))]
            self.counts: Integers = np.bincount(cells, minlength=size).astype(np.int64)
            ends = np.cumsum(self.counts)
            self._starts = np.concatenate(([0], ends))
        else:
            bounds = np.arange(size + 1, dtype=np.int64) << self._shift
            self._starts = np.searchsorted(self._keys, bounds)
            self.counts = np.diff(self._starts)

    def _packed(self, cells: Integers, values_s: Floats) -> Integers | None:
        """Return the sorted keys, or None if a duration does not fit into one."""
        if not len(values_s):
            return np.empty(0, dtype=np.int64)
        exact_ns = np.rint(values_s * NS_PER_S)
        if not 0 <= exact_ns.min() <= exact_ns.max() < 2**self._shift:
            return None
        if not (exact_ns / NS_PER_S == values_s).all():
            return None
        keys = exact_ns.astype(np.int64)
        keys |= cells << self._shift
        keys.sort()
        return keys

    def _at(self, positions: Integers) -> Floats:
        """Return the durations at positions in the sorted order, in seconds."""
        if self._keys is None:
            return self._values_s[positions]
        found: Floats = (self._keys[positions] & ((1 << self._shift) - 1)) / NS_PER_S
        return found

    def quantile(self, share: float) -> Floats:
        """Return the exact quantile of each cell in seconds, NaN where a cell is empty.

        Between the two nearest observations it is interpolated linearly: numpy's default, which
        is number 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996.
        """
        filled = np.flatnonzero(self.counts)
        position = share * (self.counts[filled] - 1)
        lower = np.floor(position).astype(np.int64)
        weight = position - lower
        first = self._starts[filled] + lower
        low, high = self._at(first), self._at(first + (weight > 0))
        found: Floats = np.full(self._size, np.nan)
        found[filled] = between(low, high, weight)
        return found

    def total_quantiles(self, first: int, cells: int, shares: Sequence[float]) -> list[float]:
        """Return exact quantiles in seconds of so many cells together, from `first`.

        NaN where there are no durations.
        """
        starts = self._starts[first : first + cells + 1]
        if starts[0] == starts[-1]:
            return [math.nan] * len(shares)
        if self._keys is None:
            values: Any = self._values_s[starts[0] : starts[-1]]
            return [float(found) for found in np.quantile(values, shares)]
        position = np.array(shares) * (starts[-1] - starts[0] - 1)
        ranks = np.floor(position).astype(np.int64)
        low_ns, high_ns = self._ranked_ns(self._keys, first, starts, ranks)
        exact = between(low_ns / NS_PER_S, high_ns / NS_PER_S, position - ranks)
        return [float(found) for found in exact]

    def _ranked_ns(
        self, keys: Integers, first: int, starts: Integers, ranks: Integers
    ) -> tuple[Integers, Integers]:
        """Return the durations of some ranks, in ns, and the next longer ones of each.

        By bisection over the durations: since each cell is sorted, one search in each counts how
        many durations do not exceed a value.
        """
        cells = np.arange(first, first + len(starts) - 1, dtype=np.int64) << self._shift
        begins, ends, mask = starts[:-1], starts[1:], (1 << self._shift) - 1
        filled = begins < ends
        low = np.full(len(ranks), (keys[begins[filled]] & mask).min())
        high = np.full(len(ranks), (keys[ends[filled] - 1] & mask).max())
        while (low < high).any():
            middle = (low + high) // 2
            up_to = np.searchsorted(keys, cells | middle[:, None], side="right") - begins
            are_enough = up_to.sum(axis=1) > ranks
            low, high = np.where(are_enough, low, middle + 1), np.where(are_enough, middle, high)
        after = np.searchsorted(keys, cells | low[:, None], side="right")
        next_ns = np.where(after < ends, keys[np.minimum(after, len(keys) - 1)] & mask, mask)
        is_repeated = (after - begins).sum(axis=1) > ranks + 1
        is_last = ranks + 1 >= starts[-1] - starts[0]
        return low, np.where(is_repeated | is_last, low, next_ns.min(axis=1))

    def heat(self, first: int, bins: int) -> Heat:
        """Return the heat map of the cells from `first`, one for each bin."""
        starts = self._starts[first : first + bins + 1]
        filled = np.flatnonzero(np.diff(starts))
        if not len(filled):
            return Heat(np.empty(0), np.empty((bins, 0), dtype=np.int64))
        edges_s, *_ = edges(
            float(self._at(starts[filled]).min()), float(self._at(starts[filled + 1] - 1).max())
        )
        bounds = np.empty((bins, len(edges_s)), dtype=np.int64)
        bounds[:, 0], bounds[:, -1] = starts[:-1], starts[1:]
        if self._keys is not None:
            inner = np.ceil(edges_s[1:-1] * NS_PER_S).astype(np.int64)
            cells = np.arange(first, first + bins, dtype=np.int64)[:, None] << self._shift
            bounds[:, 1:-1] = np.searchsorted(self._keys, cells | inner)
        else:
            for row, (start, end) in enumerate(pairwise(starts)):
                found = np.searchsorted(self._values_s[start:end], edges_s[1:-1])
                bounds[row, 1:-1] = start + found
        return Heat(edges_s, np.diff(bounds, axis=1))


def figures(cells: SortedCells, groups: int, bins: int, drawn: int) -> Cells:
    """Return the figures of sorted cells, of which the first `drawn` groups have all."""
    shape = (groups, bins)
    p50_s, p90_s, p99_s, max_s = (
        cells.quantile(share).reshape(shape) for share in (*CELL_SHARES, 1.0)
    )
    firsts = [group * bins for group in range(drawn)]
    return Cells(
        cells.counts.reshape(shape),
        p50_s,
        p90_s,
        p99_s,
        max_s,
        [cells.total_quantiles(first, bins, TOTAL_SHARES) for first in firsts],
        [cells.heat(first, bins) for first in firsts],
    )


def between(low: Floats, high: Floats, weight: Floats) -> Floats:
    """Interpolate from the nearer end, as numpy.quantile does, so that no bit differs."""
    step = high - low
    return np.where(weight < _HALF, low + step * weight, high - step * (1 - weight))


def edges(shortest_s: float, longest_s: float) -> tuple[Floats, int, int]:
    """Return the edges of buckets, the number of the first one, and their scale.

    Each edge is a power of 2 ** (1 / 2 ** scale) seconds, whose exponent is its number.
    OpenTelemetry's exponential histograms have the same ones. The scale is the finest one, of at
    most 4, that needs no more than 96 buckets.
    """
    for scale in range(FINEST_SCALE, -10, -1):
        first, last = buckets_of(shortest_s, longest_s, scale)
        if last - first < _MAX_BUCKETS:
            break
    found: Any = 2.0 ** (np.arange(first, last + 2) / 2.0**scale)
    return np.asarray(found, dtype=np.float64), first, scale


def buckets_of(shortest_s: float, longest_s: float, scale: int) -> tuple[int, int]:
    """Return the first and the last bucket of a scale that two durations need."""
    low, high = (math.log2(max(each, 1 / NS_PER_S)) for each in (shortest_s, longest_s))
    return math.floor(low * 2.0**scale), math.floor(high * 2.0**scale)
