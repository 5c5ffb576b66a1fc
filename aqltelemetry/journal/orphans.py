"""Finds what dead writers left in the journal, and claims it.

A writer is dead when its directory's lock is free. Whoever gets the lock owns
the segments until it closes, so many may look at once, and be killed themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.journal.writer import NEW_SUFFIX, SEGMENT_SUFFIX, lock, remove_empty
from aqltelemetry.observation import SegmentId

BAD_SUFFIX = ".bad"
_WRITER_CHARS = 16
_HEX = frozenset("0123456789abcdef")


class Orphans:
    """A dead writer's segments, claimed; `close` gives up what is not discarded by then."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self._path = path
        self._lock_fd = lock_fd
        self.segments = sorted(self._find(), key=lambda sealed: sealed.id)

    def discard(self, sealed: SealedSegment) -> None:
        """Remove a segment that is published; the writer's directory goes with its last."""
        sealed.discard()
        self.segments.remove(sealed)
        if not self.segments:
            self.close()

    def set_aside(self, sealed: SealedSegment) -> None:
        """Keep a segment that can't be read out of the way, for a person to look at."""
        if sealed.path is not None:
            name = f"{self._path.name}-{sealed.path.stem}{BAD_SUFFIX}"
            with suppress(OSError):
                sealed.path.rename(self._path.parent / name)
        self.discard(sealed)

    def close(self) -> None:
        """Release the claim."""
        if self._lock_fd >= 0:
            remove_empty(self._path)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _find(self) -> Iterator[SealedSegment]:
        for path in self._path.iterdir():
            if path.suffix == SEGMENT_SUFFIX and path.stem.isdigit():
                yield SealedSegment(SegmentId(self._path.name, int(path.stem)), path)
            elif path.suffix == NEW_SUFFIX:
                # Its writer was killed before any record could be in it.
                with suppress(OSError):
                    path.unlink()


def claim_orphans(root: Path) -> Iterator[Orphans]:
    """Claim one dead writer after the other; those without segments are cleared away."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for name in names:
        if not is_writer(name.removesuffix(NEW_SUFFIX)):
            continue
        path = root / name
        lock_fd = lock(path)
        if lock_fd is None:
            continue
        if not _is_same(path, lock_fd):  # finished by somebody else in between
            os.close(lock_fd)
            continue
        orphans = Orphans(path, lock_fd)
        if orphans.segments:
            yield orphans
        else:
            orphans.close()


def is_writer(name: str) -> bool:
    """Say whether a directory of this name is a writer's."""
    return len(name) == _WRITER_CHARS and _HEX.issuperset(name)


def _is_same(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
