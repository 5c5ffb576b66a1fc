"""Counts values in the buckets of classic histograms, a histogram for each key."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from aqltelemetry.shipping.metrics.buckets import Bounds, bucket_numbers

_Key = TypeVar("_Key", bound=Hashable)


class Histogram(NamedTuple):
    """Values in buckets: how many are in each, and their sum."""

    counts: npt.NDArray[np.int64]
    sum: float

    def plus(self, other: Histogram) -> Histogram:
        """Return the values of both."""
        return Histogram(self.counts + other.counts, self.sum + other.sum)

    def emptied(self) -> Histogram:
        """Return a histogram with the same buckets and no values."""
        return Histogram(np.zeros_like(self.counts), 0.0)


class Histograms(Generic[_Key]):
    """Histograms with the same bounds, by their keys.

    Args:
        bounds: The upper bounds of the buckets; the last one is infinite.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._found: dict[_Key, Histogram] = {}

    def add(
        self, keys: Sequence[_Key], codes: npt.NDArray[Any], values: npt.NDArray[np.float64]
    ) -> None:
        """Add values; for each, `codes` has an index into `keys`. Values that are NaN are left out.

        A key may occur in `keys` several times.
        """
        is_number = ~np.isnan(values)
        codes, values = codes[is_number].astype(np.int64), values[is_number]
        width = len(self.bounds)
        places = codes * width + bucket_numbers(values, self.bounds)
        counts = np.bincount(places, minlength=len(keys) * width).reshape(len(keys), width)
        sums = np.bincount(codes, values, minlength=len(keys)).tolist()
        for number in np.flatnonzero(counts.any(axis=1)).tolist():
            new = Histogram(counts[number], sums[number])
            known = self._found.get(keys[number])
            self._found[keys[number]] = new if known is None else known.plus(new)

    def items(self) -> Iterator[tuple[_Key, Histogram]]:
        """Yield each key and its histogram."""
        yield from self._found.items()

    def keys(self) -> set[_Key]:
        """Return the keys."""
        return {*self._found}
