"""A segment that takes no more records: read, published, discarded."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import SegmentId


class SealedSegment:
    """A segment on its way from the journal to the sinks.

    `accepted` is how many records it was given; None for one found after its
    writer's death, when nothing but the file is left to tell.
    """

    def __init__(
        self,
        segment_id: SegmentId,
        path: Path | None,
        *,
        accepted: int | None = None,
        live: Segment | None = None,
    ) -> None:
        self.id = segment_id
        self.path = path
        self.accepted = accepted
        self.size_bytes = live.size_bytes if path is None and live else _size_bytes(path)
        self._live = live if path is None else None

    @property
    def recovered(self) -> bool:
        """Whether another process than its writer hands it on."""
        return self.accepted is None

    def read(self) -> bytes:
        """Return the segment's bytes; raises OSError where the file can't be read."""
        if self._live is not None:
            return self._live.map[:]
        assert self.path is not None
        return self.path.read_bytes()

    def discard(self) -> None:
        """Remove the segment for good."""
        self._live = None
        if self.path is not None:
            with suppress(FileNotFoundError):
                self.path.unlink()


def seal(segment: Segment) -> SealedSegment:
    """Make a segment accept no more records, and give back the room it did not use.

    A thread that has taken a slot may store its record after this: its slot stays
    mapped for as long as it needs it, and `accepted` says to wait for it.
    """
    end = segment.exhaust()
    path = None if segment.path is None else Path(segment.path)
    if path is not None and end is not None:
        with suppress(OSError):
            os.truncate(path, end)
    return SealedSegment(segment.id, path, accepted=segment.taken, live=segment)


def _size_bytes(path: Path | None) -> int:
    try:
        return 0 if path is None else path.stat().st_size
    except OSError:
        return 0
