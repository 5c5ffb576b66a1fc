"""Groups values by integer keys, and computes exact statistics of each group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
_DIGIT_BITS = 16


class Groups:
    """Values grouped by a key.

    Args:
        keys: n integers from 0 on.
        values: n values, in the order of `keys`.

    Attributes:
        keys: The k keys that occur, in ascending order.
        counts: How many values each of the k groups has, at least 1.
    """

    def __init__(self, keys: Integers, values: Floats) -> None:
        order = stable_order(keys)
        in_order = keys[order]
        is_first = np.ones(len(keys), dtype=bool)
        np.not_equal(in_order[1:], in_order[:-1], out=is_first[1:])
        self._starts = np.flatnonzero(is_first)
        self.keys = in_order[self._starts].astype(np.int64)
        self.counts = np.diff(self._starts, append=len(keys))
        self._values = values[order]
        self._first = self._values[self._starts]
        self._last = self._values[self._starts + self.counts - 1]
        self._is_sorted = False

    def first(self) -> Floats:
        """Return the first value of each group, in the given order."""
        return self._first

    def last(self) -> Floats:
        """Return the last value of each group, in the given order."""
        return self._last

    def sum(self) -> Floats:
        """Return the sum of each group, without values that are NaN."""
        if not len(self.keys):
            return np.empty(0)
        sums: Floats = np.add.reduceat(self._values, self._starts)
        if np.isnan(sums).any():
            present = np.where(np.isnan(self._values), 0.0, self._values)
            sums = np.add.reduceat(present, self._starts)
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
        self._sort()
        known = self._known()
        last = np.maximum(known - 1, 0)[:, None]
        place = last * np.asarray(shares, np.float64)
        lower = np.floor(place)
        low = self._values[self._starts[:, None] + lower.astype(np.int64)]
        upper = np.minimum(lower.astype(np.int64) + 1, last)
        high = self._values[self._starts[:, None] + upper]
        found = _between(low, high, place - lower)
        found[known == 0] = np.nan
        return found

    def _sort(self) -> None:
        """Sort the values of each group; NaN comes last."""
        if not self._is_sorted:
            for start, count in zip(self._starts.tolist(), self.counts.tolist(), strict=True):
                self._values[start : start + count].sort()
            self._is_sorted = True

    def _known(self) -> npt.NDArray[np.int64]:
        """Return how many values of each group are not NaN."""
        if not len(self.keys) or not np.isnan(self._values[self._starts + self.counts - 1]).any():
            return self.counts
        return self.counts - np.add.reduceat(np.isnan(self._values), self._starts, dtype=np.int64)


def _between(low: Floats, high: Floats, share: Floats) -> Floats:
    """Interpolate as numpy's `quantile` does, to the last bit."""
    with np.errstate(invalid="ignore"):
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
