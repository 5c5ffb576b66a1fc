"""Counts what is dropped, where a kill can't undo it: in the current segment's marks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from aqltelemetry.clock import monotonic_ns
from aqltelemetry.journal.marks import DROP_MARKS
from aqltelemetry.journal.segment import Counter, Segment


class Drops:
    """The drops of one recording, by reason; counted on any thread, without a lock."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._last_ns: dict[str, int] = {}

    @property
    def totals(self) -> Mapping[str, int]:
        """How many observations were dropped since the start, by reason."""
        return {reason: counter.value for reason, counter in list(self._counters.items())}

    def count(self, reason: str) -> int:
        """Count one, dropped now; return the number of it, from 1."""
        self._last_ns[reason] = monotonic_ns()
        return self._counters.setdefault(reason, Counter()).step() + 1

    def keep(self, reason: str, total: int, segment: Segment) -> None:
        """Have a segment tell of a total; never raises."""
        with suppress(Exception):
            segment.mark(DROP_MARKS[reason], total, self._last_ns[reason])

    def carry(self, segment: Segment) -> None:
        """Have another segment tell of all so far."""
        for reason, total in self.totals.items():
            self.keep(reason, total, segment)
