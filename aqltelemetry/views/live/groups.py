"""The figures of values by row: a route's or a worker's durations, its delays, its pauses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.buckets import (
    BUCKETS,
    Buckets,
    Floats,
    Integers,
    bucket_numbers,
    counted,
)
from aqltelemetry.views.live.seconds import Ring, Span, binned
from aqltelemetry.views.live.trend import Trend


class Pieces(NamedTuple):
    """Where each second's values are in arrays that are sorted by time.

    Attributes:
        seconds: The second of each of n values.
        kept: The seconds that are kept, and the slice of each.
    """

    seconds: Integers
    kept: Sequence[tuple[int, slice]]


class Figures(NamedTuple):
    """The figures of n rows, as arrays of n numbers; NaN where there are no values.

    `p50` and `p99` are at most `buckets.MAX_ERROR` off; all others are exact.
    """

    counts: Integers
    sums: Floats
    maxima: Floats
    p50: Floats
    p99: Floats


class Groups:
    """Values of rows, such as the durations of routes; their figures in a span, and in all."""

    def __init__(self) -> None:
        self.rows = 0
        self._counts, self._sums = Ring(), Ring(float)
        self._maxima = Ring(float, np.nan)
        self._in_span, self._ever = Buckets(), Buckets()
        self._trend = Trend()
        self._span = Span(0, 0)
        self._keys: dict[int, list[tuple[Integers, Integers]]] = {}
        self._total = Figures(*(np.zeros(0, kind) for kind in (int, float, float, float, float)))

    def reserve(self, rows: int) -> None:
        """Make room for more rows; `rows` is their new number."""
        if rows > self.rows:
            missing = rows - self.rows
            for ring in (self._counts, self._sums, self._maxima):
                ring.reserve(rows)
            for part in (self._in_span, self._ever, self._trend):
                part.reserve(rows)
            empty = (0, 0.0, np.nan, np.nan, np.nan)
            self._total = Figures(
                *(
                    np.concatenate([known, np.full(missing, value, known.dtype)])
                    for known, value in zip(self._total, empty, strict=True)
                )
            )
            self.rows = rows

    def add(self, pieces: Pieces, rows: Integers, values: Floats) -> None:
        """Add values, sorted by time as `pieces` describes; `rows` has the row of each."""
        if not len(values):
            return
        keys = rows.astype(np.int64) * BUCKETS + bucket_numbers(values)
        total = self._total
        np.fmax.at(total.maxima, rows, values)
        total.counts[:] += np.bincount(rows, minlength=self.rows)
        total.sums[:] += np.bincount(rows, values, self.rows)
        self._ever.add(*counted(keys))
        self._trend.add(pieces.seconds, rows)
        for second, piece in pieces.kept:
            self._add_second(second, rows[piece], values[piece], keys[piece])

    def _add_second(self, second: int, rows: Integers, values: Floats, keys: Integers) -> None:
        self._counts.add(second, np.bincount(rows))
        self._sums.add(second, np.bincount(rows, values))
        self._maxima.raise_to(second, rows, values)
        found = counted(keys)
        self._keys.setdefault(second, []).append(found)
        if second in self._span:
            self._in_span.add(*found)

    def forget(self, columns: Integers, before_s: int) -> None:
        """Forget the seconds before `before_s`, whose columns are needed for others."""
        for ring in (self._counts, self._sums, self._maxima):
            ring.forget(columns)
        for second in [each for each in self._keys if each < before_s]:
            parts = self._keys.pop(second)
            if second in self._span:
                for part in parts:
                    self._in_span.subtract(*part)

    def figures(self, span: Span | None) -> Figures:
        """Return the figures of all rows in a span that is kept, or ever if it is None."""
        if span is None:
            p50, p99 = self._percentiles(self._ever, self._total.maxima)
            return self._total._replace(p50=p50, p99=p99)
        self._slide(span)
        largest = np.fmax.reduce(self._maxima.over(span)[: self.rows], axis=1, initial=np.nan)
        return Figures(
            self._counts.over(span)[: self.rows].sum(axis=1),
            self._sums.over(span)[: self.rows].sum(axis=1),
            largest,
            *self._percentiles(self._in_span, largest),
        )

    def trends(self, span: Span | None, end_s: int, bins: int) -> Floats:
        """Return each row's number of values in at most `bins` bins of a span, or of all time."""
        if span is None:
            return binned(self._trend.counts(self.rows, end_s), bins)
        return binned(self._counts.over(span)[: self.rows], bins)

    def _percentiles(self, buckets: Buckets, maxima: Floats) -> tuple[Floats, Floats]:
        found = buckets.percentiles()[: self.rows]
        # The middle of a bucket may exceed the largest value in it.
        return np.fmin(found[:, 0], maxima), np.fmin(found[:, 1], maxima)

    def _slide(self, span: Span) -> None:
        """Make `_in_span` contain the seconds of a span."""
        before, self._span = self._span, span
        kept = range(max(before.begin_s, span.begin_s), min(before.end_s, span.end_s))
        if not kept:
            self._in_span.clear()
            self._change(span, range(0), 1)
            return
        self._change(before, kept, -1)
        self._change(span, kept, 1)

    def _change(self, span: Span, besides: range, sign: int) -> None:
        for second in range(span.begin_s, span.end_s):
            if second not in besides:
                for keys, counts in self._keys.get(second, ()):
                    self._in_span.add(keys, sign * counts)


def pieces_of(times_ns: Integers, oldest_s: int) -> Pieces:
    """Return the pieces of arrays that are sorted by time; seconds from `oldest_s` on are kept."""
    seconds = times_ns // NS_PER_S
    first = int(np.searchsorted(seconds, oldest_s))
    starts = first + np.flatnonzero(np.diff(seconds[first:], prepend=oldest_s - 1))
    bounds = [*starts.tolist(), len(seconds)]
    kept = [(int(seconds[start]), slice(start, end)) for start, end in pairwise(bounds)]
    return Pieces(seconds, kept)
