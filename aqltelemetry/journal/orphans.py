"""Finds what dead writers left in the journal, and claims it.

A writer is dead when its directory's lock is free. Whoever gets the lock owns
the segments until it closes, so many may look at once, and be killed themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aqltelemetry.journal.format import ANCHORS_AT, RECORD_BYTES
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
        paths = {int(path.stem): path for path in self._find()}
        last = _last_entered(paths)
        self.segments = [
            SealedSegment(SegmentId(path.name, number), paths[number], is_last=number == last)
            for number in sorted(paths)
        ]

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

    def _find(self) -> Iterator[Path]:
        for path in self._path.iterdir():
            if path.suffix == SEGMENT_SUFFIX and path.stem.isdigit():
                yield path
            elif path.suffix == NEW_SUFFIX:
                # Its writer was killed before any record could be in it.
                with suppress(OSError):
                    path.unlink()


def claim_orphans(root: Path) -> Iterator[Orphans]:
    """Claim one dead writer after the other; those without segments are cleared away."""
    for path in find_writers(root, NEW_SUFFIX):
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


def find_writers(root: Path, suffix: str = "") -> Sequence[Path]:
    """Return the directories of writers, dead or alive; those named `suffix` at the end too."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return ()
    return [root / name for name in names if _is_writer(name.removesuffix(suffix))]


def find_set_aside(root: Path) -> Iterator[tuple[str, int]]:
    """Return writer and number of each segment that was set aside."""
    with suppress(FileNotFoundError):
        for name in os.listdir(root):
            writer, _, number = name.removesuffix(BAD_SUFFIX).partition("-")
            if name.endswith(BAD_SUFFIX) and _is_writer(writer) and number.isdigit():
                yield writer, int(number)


def _is_writer(name: str) -> bool:
    return len(name) == _WRITER_CHARS and _HEX.issuperset(name)


def _last_entered(paths: Mapping[int, Path]) -> int | None:
    """Return the highest number of a segment that was recorded to, and is no mere spare."""
    for number in sorted(paths, reverse=True):
        with suppress(OSError), paths[number].open("rb") as file:
            if any(file.read(ANCHORS_AT + RECORD_BYTES)[ANCHORS_AT:]):
                return number
    return None


def _is_same(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
