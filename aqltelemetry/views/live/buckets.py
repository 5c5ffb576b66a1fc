"""Counts durations in buckets, a row of buckets for each series, and takes percentiles of them.

Between two powers of two, there are 64 buckets of equal width, as in HdrHistogram. So a value is
at most 0.78 % from the middle of its bucket, and counts can be added and subtracted exactly.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]

_STEPS = 64
_MIN_EXPONENT, _MAX_EXPONENT = -27, 17  # 7.5 ns; 1.5 days
BUCKETS = (_MAX_EXPONENT - _MIN_EXPONENT) * _STEPS
"""The number of buckets of a row."""
MAX_ERROR = 0.5 / _STEPS
"""The largest relative error of a percentile between 7.5 ns and 1.5 days."""
_MAX_SPARSE = 20
# The bits of a float below its sign, exponent and the six bits that number its bucket.
_SHIFT = 52 - 6
_FIRST = int(np.float64(2.0**_MIN_EXPONENT).view(np.int64)) >> _SHIFT


def bucket_numbers(values_s: Floats) -> Integers:
    """Return the number of each value's bucket; values outside belong to the first or last."""
    bits = np.ascontiguousarray(values_s, np.float64).view(np.int64) >> _SHIFT
    numbers: Integers = np.clip(bits - _FIRST, 0, BUCKETS - 1)
    return numbers


def _middles() -> Floats:
    bits = (np.arange(BUCKETS, dtype=np.int64) + _FIRST << _SHIFT) + (1 << _SHIFT - 1)
    return bits.view(np.float64)


_MIDDLES = _middles()


class Buckets:
    """Rows of buckets with counts, and the percentiles of each row.

    A percentile is interpolated linearly between the two nearest values, as numpy does, and
    each value is taken as the middle of its bucket. So it is at most `MAX_ERROR` off.
    """

    def __init__(self, shares: tuple[float, ...] = (0.5, 0.99)) -> None:
        self._shares = shares
        self._counts = np.zeros((0, BUCKETS), np.int32)
        self._percentiles = np.full((0, len(shares)), np.nan)
        self._is_changed = np.zeros(0, bool)

    def reserve(self, rows: int) -> None:
        """Make room for a number of rows."""
        missing = rows - len(self._counts)
        if missing > 0:
            missing = max(missing, len(self._counts) // 2)
            self._counts = np.pad(self._counts, ((0, missing), (0, 0)))
            self._is_changed = np.pad(self._is_changed, (0, missing))
            unknown = np.full((missing, len(self._shares)), np.nan)
            self._percentiles = np.concatenate([self._percentiles, unknown])

    def clear(self) -> None:
        """Set all counts to 0."""
        self._counts[:] = 0
        self._is_changed[:] = True

    def add(self, keys: Integers, counts: Integers) -> None:
        """Add counts; a key is a row times `BUCKETS`, plus a bucket. Each key occurs once."""
        self._counts.reshape(-1)[keys] += counts.astype(np.int32)
        self._is_changed[keys // BUCKETS] = True

    def subtract(self, keys: Integers, counts: Integers) -> None:
        """Subtract counts that were added."""
        self.add(keys, -counts)

    def percentiles(self) -> Floats:
        """Return the percentiles of all rows, a column for each share; NaN without values.

        Only rows that changed since the last call are computed.
        """
        (rows,) = self._is_changed.nonzero()
        if len(rows):
            self._percentiles[rows] = self._of(self._counts[rows].cumsum(axis=1))
            self._is_changed[rows] = False
        return self._percentiles

    def _of(self, sums: Integers) -> Floats:
        totals = sums[:, -1]
        found = np.full((len(sums), len(self._shares)), np.nan)
        for column, share in enumerate(self._shares):
            place = share * np.maximum(totals - 1, 0)
            low = _values(sums, np.floor(place))
            high = _values(sums, np.ceil(place))
            found[:, column] = low + (high - low) * (place - np.floor(place))
        found[totals == 0] = np.nan
        return found


def _values(sums: Integers, places: Floats) -> Floats:
    """Return the value at a place in the order of each row's values, from 0."""
    numbers = (sums <= places[:, np.newaxis]).sum(axis=1)
    values: Floats = _MIDDLES[np.minimum(numbers, BUCKETS - 1)]
    return values


def counted(keys: Integers) -> tuple[Integers, Integers]:
    """Return the distinct keys, in order, and how often each occurs."""
    # Sorting, as `unique` does, takes ten times as long unless keys are large and few.
    if len(keys) and int(keys.max()) < _MAX_SPARSE * len(keys):
        counts = np.bincount(keys)
        found = np.flatnonzero(counts)
        return found, counts[found]
    return np.unique(keys, return_counts=True)
