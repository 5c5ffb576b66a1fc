"""The slowest durations of a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aqltelemetry.views.live.buckets import Floats, Integers
from aqltelemetry.views.live.groups import Pieces
from aqltelemetry.views.live.seconds import Span

KEPT = 100
"""How many durations are kept of each second, and of all."""


class Slow(NamedTuple):
    """Durations as columns: when each ended, how long it took, of which label and worker."""

    times_ns: Integers
    values: Floats
    rows: Integers
    workers: Integers

    def longest(self, number: int = KEPT) -> Slow:
        """Return the longest durations, longest first."""
        if len(self.values) > number:
            return self.part(np.argpartition(-self.values, number)[:number]).longest(number)
        return self.part(np.argsort(-self.values, kind="stable"))

    def part(self, rows: Integers | slice) -> Slow:
        """Return some of the durations, in this order."""
        return Slow(self.times_ns[rows], self.values[rows], self.rows[rows], self.workers[rows])


_NOTHING = Slow(
    np.zeros(0, np.int64), np.zeros(0, float), np.zeros(0, np.int64), np.zeros(0, np.int64)
)


class Slowest:
    """The slowest durations of each second, and of all."""

    def __init__(self) -> None:
        self._seconds: dict[int, Slow] = {}
        self._ever = _NOTHING

    def add(self, pieces: Pieces, durations: Slow) -> None:
        """Add durations, sorted as `pieces` describes."""
        first = pieces.kept[0][1].start if pieces.kept else len(durations.values)
        longest = [self._ever, durations.part(slice(0, first)).longest()]
        for second, piece in pieces.kept:
            found = durations.part(piece).longest()
            longest.append(found)
            known = self._seconds.get(second)
            self._seconds[second] = found if known is None else _longest([known, found])
        self._ever = _longest(longest)

    def forget(self, before_s: int) -> None:
        """Forget the seconds before `before_s`."""
        for second in [each for each in self._seconds if each < before_s]:
            del self._seconds[second]

    def longest(self, span: Span | None) -> Slow:
        """Return the slowest durations that ended in a span, or ever, longest first."""
        if span is None:
            return self._ever
        return _longest([part for second, part in self._seconds.items() if second in span])


def _longest(parts: Sequence[Slow]) -> Slow:
    if not parts:
        return _NOTHING
    times_ns, values, rows, workers = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return Slow(times_ns, values, rows, workers).longest()
