"""Groups values by integer keys, and computes exact statistics of each group."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.system.extensions import load

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
_Counts: TypeAlias = npt.NDArray[np.int64]
_DIGIT_BITS = 16
# Groups with fewer values are sorted completely.
_MIN_PARTITIONED = 1000
# With fewer values, threads take longer to start than they save.
_MIN_THREADED = 1_000_000
_MAX_THREADS = 8
# With more possible keys, counting them takes more memory than sorting them.
_MAX_COUNTED = 1 << 20
compiled: Any = load(__name__)
"""The compiled twin, or None."""


class Groups:
    """Values grouped by a key.

    Args:
        keys: n integers from 0 on; values with a negative key are left out.
        values: n values, in the order of `keys`.

    Attributes:
        keys: The k keys that occur, in ascending order.
        counts: How many values each of the k groups has, at least 1.
    """

    def __init__(self, keys: Integers, values: Floats) -> None:
        self._values: Floats
        self.keys, self.counts, self._values = _sorted_by_key(keys, values)
        self._starts = np.cumsum(self.counts) - self.counts
        self._first = self._values[self._starts]
        self._last = self._values[self._starts + self.counts - 1]

    def first(self) -> Floats:
        """Return the first value of each group, in the given order."""
        found: Floats = self._first
        return found

    def last(self) -> Floats:
        """Return the last value of each group, in the given order."""
        found: Floats = self._last
        return found

    def sum(self) -> Floats:
        """Return the sum of each group, without values that are NaN."""
        if not len(self.keys):
            return np.empty(0)
        sums = self._sums()
        if np.isnan(sums).any():
            present = np.where(np.isnan(self._values), 0.0, self._values)
            with np.errstate(invalid="ignore", over="ignore"):  # of both infinities
                sums = np.add.reduceat(present, self._starts)
        return sums

    def _sums(self) -> Floats:
        with np.errstate(invalid="ignore", over="ignore"):
            sums: Floats = np.add.reduceat(self._values, self._starts)
        return sums

    def max(self) -> Floats:
        """Return the largest value of each group; NaN if all are NaN."""
        if not len(self.keys):
            return np.empty(0)
        largest: Floats = np.fmax.reduceat(self._values, self._starts)
        return largest

    def min(self) -> Floats:
        """Return the smallest value of each group; NaN if all are NaN."""
        if not len(self.keys):
            return np.empty(0)
        smallest: Floats = np.fmin.reduceat(self._values, self._starts)
        return smallest

    def quantiles(self, shares: Sequence[float]) -> Floats:
        """Return quantiles of each group, without values that are NaN.

        The result is that of `numpy.quantile`: with linear interpolation between the two nearest
        values. If one of these is infinite, so is the result; it is NaN for a group of NaN.

        Args:
            shares: m numbers from 0 to 1, such as 0.99.

        Returns:
            k rows of m quantiles.
        """
        known = self._known()
        last = np.maximum(known - 1, 0)[:, None]
        place = last * np.asarray(shares, np.float64)
        lower = np.floor(place)
        first = lower.astype(np.int64)
        second = np.minimum(first + 1, last)
        self._arrange(np.hstack([first, second]))
        low, high = (self._values[self._starts[:, None] + at] for at in (first, second))
        found = _between(low, high, place - lower)
        found[known == 0] = np.nan
        return found

    def _arrange(self, places: Integers) -> None:
        """Move the values that a sorted group has at some places there; NaN comes last."""
        tasks = [
            (self._values[start : start + count], wanted)
            for start, count, wanted in zip(
                self._starts.tolist(), self.counts.tolist(), places, strict=True
            )
        ]
        threads = len(os.sched_getaffinity(0)) if len(self._values) >= _MIN_THREADED else 1
        if threads == 1 or len(tasks) == 1:
            for values, wanted in tasks:
                _partition(values, wanted)
        else:  # numpy releases the interpreter lock meanwhile
            with ThreadPoolExecutor(min(threads, _MAX_THREADS)) as pool:
                deque(pool.map(_partition, *zip(*tasks, strict=True)), maxlen=0)

    def _known(self) -> npt.NDArray[np.int64]:
        """Return how many values of each group are not NaN."""
        if not len(self.keys) or not np.isnan(self._sums()).any():
            return self.counts
        return self.counts - np.add.reduceat(np.isnan(self._values), self._starts, dtype=np.int64)


def _partition(values: Floats, places: Integers) -> None:
    if len(values) < _MIN_PARTITIONED:
        values.sort()
    else:  # several times as fast as sorting
        values.partition(np.unique(places).tolist())


def _sorted_by_key(keys: Integers, values: Floats) -> tuple[_Counts, _Counts, Floats]:
    """Return the keys that occur, how often, and the values sorted by key."""
    size = max(int(keys.max(initial=-1)) + 1, 0)
    if compiled is not None and size <= _MAX_COUNTED:
        ends, out = np.zeros(size, np.int64), np.empty(len(values))
        compiled.sort_by_key(np.ascontiguousarray(keys), np.ascontiguousarray(values), ends, out)
        counts = np.diff(ends, prepend=0)
        found = np.flatnonzero(counts)
        return found, counts[found], out[: counts.sum()]
    if len(keys) and keys.min() < 0:
        keys, values = keys[keys >= 0], values[keys >= 0]
    order = stable_order(keys)
    in_order = keys[order]
    is_first = np.ones(len(keys), dtype=bool)
    np.not_equal(in_order[1:], in_order[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    return in_order[starts].astype(np.int64), np.diff(starts, append=len(keys)), values[order]


def _between(low: Floats, high: Floats, share: Floats) -> Floats:
    """Interpolate as numpy's `quantile` does, to the last bit."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = high - low
        found = low + difference * share
        np.subtract(high, difference * (1 - share), out=found, where=share >= 0.5)  # noqa: PLR2004
        # Where a neighbour is infinite, these give NaN.
        found = np.where(np.isfinite(low) & np.isfinite(high), found, low + high)
    exact: Floats = np.where((share == 0) | (low == high), low, found)
    return exact


def stable_order(keys: Integers) -> npt.NDArray[np.intp]:
    """Return the indexes that sort integers from 0 on; equal ones stay in order.

    numpy sorts integers of 16 bits by their digits, several times as fast as longer ones.
    """
    largest = int(keys.max()) if len(keys) else 0
    order: npt.NDArray[np.intp] = np.argsort(keys.astype(np.uint16), kind="stable")
    shift = _DIGIT_BITS
    while largest >> shift:
        digits = (keys[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
        shift += _DIGIT_BITS
    return order
