"""A sealed segment, which accepts no more records: it is read, published and removed."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aqltelemetry.journal.files import read_file
from aqltelemetry.journal.labels import NO_LABELS, TableLabels
from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import SegmentId
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import yield_gil

_MAPPED_ALL_THE_SAME = frozenset({errno.ENOENT, errno.EMFILE, errno.ENFILE})


class SealedSegment:
    """A segment on its way from the journal to the sinks.

    Attributes:
        path: Its file; None if it is in memory only.
        live: The segment into which was recorded; needed until the file is read once.
        accepted: How many records it accepted; None if it was found after its writer's death,
            when only the file remains.
    """

    def __init__(
        self,
        segment_id: SegmentId,
        path: Path | None,
        live: Segment | None = None,
        accepted: int | None = None,
    ) -> None:
        self.id = segment_id
        self.path = path
        self.accepted = accepted
        self.is_last = False
        """Whether a dead writer recorded to this segment last."""
        self.pid = 0
        """The PID of a dead writer, from the headers of its segments; 0 if unknown."""
        self.is_whole = True
        """False if parts of it are damaged and were reconstructed; known once it was read."""
        self.labels: Callable[[], TableLabels] = lambda: NO_LABELS
        """Returns the labels of its writer's table; may read the table's file."""
        self.size_bytes = _size_bytes(path) if live is None else live.size_bytes
        self._live = live

    @property
    def recovered(self) -> bool:
        """Whether another process than its writer delivers it."""
        return self.accepted is None

    @property
    def made_ns(self) -> int:
        """When the file was last written to, by its file system; raises OSError."""
        return 0 if self.path is None else syscalls.look_at(self.path).st_mtime_ns

    def read(self) -> bytes:
        """Return the segment's bytes; raises as `read_file` does."""
        live = self._live
        if self.path is not None:
            try:
                data = read_file(self.path)
            except OSError as exc:
                # The journal was removed, or the process has no free descriptors; the
                # mapping can still be read.
                if live is None or exc.errno not in _MAPPED_ALL_THE_SAME:
                    raise
            else:
                yield_gil()  # unmapping takes as long as reading
                self._live = None
                return data
        return live.map[: self.size_bytes] if live is not None else b""

    def discard(self) -> None:
        """Remove the segment's file; memory is freed with the last reference."""
        if self.path is not None:
            with suppress(FileNotFoundError):
                syscalls.unlink(self.path)


def seal(segment: Segment) -> SealedSegment:
    """Make a segment accept no more records, and free the space that it did not use.

    A thread that has taken a slot may store its record after this. The slot stays mapped, and
    a reader waits until `accepted` records are stored.
    """
    end = segment.exhaust()
    if segment.path is not None and end is not None:
        with suppress(OSError):
            syscalls.truncate(segment.path, end)
    sealed = SealedSegment(segment.id, segment.path, segment, segment.taken)
    table = segment.table
    if table is not None:
        sealed.labels = lambda: table.labels
    # The rest of the mapping is beyond the end of the file: an access would be a SIGBUS.
    sealed.size_bytes = segment.size_bytes if end is None else end
    return sealed


def _size_bytes(path: Path | None) -> int:
    with suppress(OSError):
        return 0 if path is None else syscalls.look_at(path).st_size
    return 0
