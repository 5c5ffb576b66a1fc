"""Counts over all of a recording, in few bins whose width grows with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aqltelemetry.views.live.buckets import Integers, counted

BINS = 128
"""The largest number of bins of a trend over all of a recording."""


def resampled(values: Sequence[float], bins: int) -> list[float]:
    """Return the means of `bins` parts of equal length of the values; all if they are fewer."""
    size = len(values)
    if size <= bins:
        return list(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    edges = np.linspace(0, size, bins + 1)
    means: list[float] = (
        np.diff(np.interp(edges, np.arange(size + 1), sums)) * bins / size
    ).tolist()
    return means


class Trend:
    """Counts per row in at most `BINS` bins of equal width, from the first second on.

    Bins are one second wide at first. When they do not suffice, each two become one.
    """

    def __init__(self) -> None:
        self.width_s = 1
        self._first_s: int | None = None
        self._counts = np.zeros((0, BINS), np.int64)

    def reserve(self, rows: int) -> None:
        """Make room for a number of rows."""
        missing = rows - len(self._counts)
        if missing > 0:
            self._counts = np.pad(self._counts, ((0, max(missing, rows // 2)), (0, 0)))

    def add(self, seconds: Integers, rows: Integers) -> None:
        """Count values by their second and row; earlier ones than the first count as first."""
        if not len(rows):
            return
        if self._first_s is None:
            self._first_s = int(seconds.min())
        offsets = np.maximum(seconds - self._first_s, 0)
        last = int(offsets.max())
        while last // self.width_s >= BINS:
            self._counts = np.pad(
                self._counts.reshape(len(self._counts), -1, 2).sum(axis=2), ((0, 0), (0, BINS // 2))
            )
            self.width_s *= 2
        keys = rows.astype(np.int64) * BINS + offsets // self.width_s
        found, counts = counted(keys)
        self._counts.reshape(-1)[found] += counts

    def counts(self, rows: int, end_s: int) -> Integers:
        """Return the counts of the first rows, a column for each bin before `end_s`."""
        if self._first_s is None:
            return self._counts[:rows, :0]
        bins = -(-max(end_s - self._first_s, 1) // self.width_s)
        return self._counts[:rows, : min(bins, BINS)]
