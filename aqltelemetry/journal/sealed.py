"""A segment that takes no more records: read, published, discarded."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import SegmentId


class SealedSegment:
    """A segment on its way from the journal to the sinks.

    It is a file, or `live` where it is in memory only. `accepted` is how many
    records it was given; None for one found after its writer's death, when
    nothing but the file is left to tell.
    """

    def __init__(
        self, segment_id: SegmentId, source: Path | Segment, accepted: int | None = None
    ) -> None:
        self.id = segment_id
        self.accepted = accepted
        self.size_bytes = _size_bytes(source)
        self._source = source

    @property
    def recovered(self) -> bool:
        """Whether another process than its writer hands it on."""
        return self.accepted is None

    @property
    def path(self) -> Path | None:
        """The segment's file."""
        return self._source if isinstance(self._source, Path) else None

    def read(self) -> bytes:
        """Return the segment's bytes; raises OSError where the file can't be read."""
        if isinstance(self._source, Path):
            return self._source.read_bytes()
        return self._source.map[:]

    def discard(self) -> None:
        """Remove the segment for good; in memory, it goes with the last that refers to it."""
        if isinstance(self._source, Path):
            self._source.unlink(missing_ok=True)


def seal(segment: Segment) -> SealedSegment:
    """Make a segment accept no more records, and give back the room it did not use.

    A thread that has taken a slot may store its record after this: its slot stays
    mapped for as long as it needs it, and `accepted` says to wait for it.
    """
    end = segment.exhaust()
    if segment.path is not None and end is not None:
        with suppress(OSError):
            os.truncate(segment.path, end)
    return SealedSegment(segment.id, segment.path or segment, segment.taken)


def _size_bytes(source: Path | Segment) -> int:
    if isinstance(source, Segment):
        return source.size_bytes
    try:
        return source.stat().st_size
    except OSError:
        return 0
