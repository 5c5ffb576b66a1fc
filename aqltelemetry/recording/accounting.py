"""Counts where the records of a writer are: in the journal, published or lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from aqltelemetry.journal.counters import TORN, UNREADABLE
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.journal.segment import Segment
from aqltelemetry.system.unpatched import native


class RecordCounts(NamedTuple):
    """Where the records that a writer accepted are, at one moment.

    `lost` counts by drop reason; `segment_bytes` is the size of all segments not yet released.
    """

    in_journal: int
    published: int
    lost: Mapping[str, int]
    segment_bytes: int


class Accounting:
    """Holds the segments of a writer with their record counts; consistent on any thread.

    `live` segments may be recorded to, in this order; sealed ones wait to be published.
    """

    def __init__(self) -> None:
        self.live: list[Segment] = []
        self.accepted = 0
        """Records in all segments that are no longer live."""
        self._sealed: dict[SealedSegment, int] = {}
        self._published = 0
        self._lost: Counter[str] = Counter()
        self._lock = native("_thread", "allocate_lock")()

    def counts(self) -> RecordCounts:
        """Return the counts at this moment."""
        with self._lock:
            segments: tuple[Segment | SealedSegment, ...] = (*self.live, *self._sealed)
            return RecordCounts(
                in_journal=sum(each.taken for each in self.live) + sum(self._sealed.values()),
                published=self._published,
                lost=dict(self._lost),
                segment_bytes=sum(segment.size_bytes for segment in segments),
            )

    @property
    def unreadable(self) -> int:
        """How many records were lost with segments that could not be read."""
        return self._lost[UNREADABLE]

    def add(self, segment: Segment) -> None:
        """Add a live segment, the last in order."""
        with self._lock:
            self.live.append(segment)

    def move(self, sealed: SealedSegment, *, keep: bool) -> None:
        """Move the first live segment to the sealed ones; with `keep` false, forget it."""
        accepted = sealed.accepted or 0
        with self._lock:
            del self.live[0]
            if keep:
                self._sealed[sealed] = accepted
        self.accepted += accepted

    def release(self, sealed: SealedSegment, records: int | None) -> None:
        """Count a sealed segment's records as published, and missing ones as lost.

        `records` is how many were published; None if the segment could not be read.
        """
        with self._lock:
            accepted = self._sealed.pop(sealed)
            self._published += records or 0
            if lost := accepted - (records or 0):
                self._lost[UNREADABLE if records is None else TORN] += lost
