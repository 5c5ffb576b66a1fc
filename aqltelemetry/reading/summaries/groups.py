"""Groups values by integer keys, and computes exact statistics of each group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.summaries.selection import Runs, quantiles
from aqltelemetry.system.extensions import load

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
_Counts: TypeAlias = npt.NDArray[np.int64]
_DIGIT_BITS = 16
MAX_COUNTED = 1 << 20
"""With more possible keys, counting them takes more memory than sorting them."""
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

    def first(self) -> Floats:
        """Return the first value of each group, in the given order."""
        found: Floats = self._values[self._starts]
        return found

    def last(self) -> Floats:
        """Return the last value of each group, in the given order."""
        found: Floats = self._values[self._starts + self.counts - 1]
        return found

    def sum(self) -> Floats:
        """Return the sum of each group, without values that are NaN."""
        return sums(self._values, self._starts)

    def max(self) -> Floats:
        """Return the largest value of each group; NaN if all are NaN."""
        return largest(self._values, self._starts)

    def min(self) -> Floats:
        """Return the smallest value of each group; NaN if all are NaN."""
        if not len(self.keys):
            return np.empty(0)
        smallest: Floats = np.fmin.reduceat(self._values, self._starts)
        return smallest

    def quantiles(self, shares: Sequence[float]) -> Floats:
        """Return quantiles of each group, without values that are NaN.

        Args:
            shares: m numbers from 0 to 1, such as 0.99.

        Returns:
            k rows of m quantiles; see `selection.quantiles`.
        """
        known = self.counts - missing(self._values, self._starts)
        return quantiles(self._values, Runs.of_counts(self.counts), known, shares)


def sums(values: Floats, starts: _Counts) -> Floats:
    """Return the sums of runs of values that begin at `starts`, without values that are NaN."""
    if not len(starts):
        return np.empty(0)
    found = _plain_sums(values, starts)
    if np.isnan(found).any():
        present = np.where(np.isnan(values), 0.0, values)
        with np.errstate(invalid="ignore", over="ignore"):  # of both infinities
            found = np.add.reduceat(present, starts)
    return found


def missing(values: Floats, starts: _Counts) -> _Counts:
    """Return how many values of each run are NaN."""
    if not len(starts) or not np.isnan(_plain_sums(values, starts)).any():
        return np.zeros(len(starts), np.int64)
    counts: _Counts = np.add.reduceat(np.isnan(values), starts, dtype=np.int64)
    return counts


def largest(values: Floats, starts: _Counts) -> Floats:
    """Return the largest value of each run; NaN if all are NaN."""
    if not len(starts):
        return np.empty(0)
    found: Floats = np.fmax.reduceat(values, starts)
    return found


def _plain_sums(values: Floats, starts: _Counts) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):
        found: Floats = np.add.reduceat(values, starts)
    return found


def _sorted_by_key(keys: Integers, values: Floats) -> tuple[_Counts, _Counts, Floats]:
    """Return the keys that occur, how often, and the values sorted by key."""
    size = max(int(keys.max(initial=-1)) + 1, 0)
    if compiled is not None and size <= MAX_COUNTED:
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


def stable_order(keys: Integers) -> npt.NDArray[np.intp]:
    """Return the indexes that sort integers from 0 on; equal ones stay in order.

    numpy sorts integers of 16 bits by their digits, several times as fast as longer ones.
    """
    largest_key = int(keys.max()) if len(keys) else 0
    order: npt.NDArray[np.intp] = np.argsort(keys.astype(np.uint16), kind="stable")
    shift = _DIGIT_BITS
    while largest_key >> shift:
        digits = (keys[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
        shift += _DIGIT_BITS
    return order
