"""Finds the segments of dead writers in the journal, and locks them for recovery.

A writer is dead when its directory's lock is free. The process that gets the lock owns the
segments until it closes the lock. So several processes may search at once, and be killed while
they do.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal.dir_lock import NEW_SUFFIX, lock, remove_empty
from aqltelemetry.journal.evidence import EXIT_NAME, NAMES, OF_A_DEATH, remove_evidence
from aqltelemetry.journal.files import read_file, segment_number
from aqltelemetry.journal.format import ANCHORS_AT, MAGIC, RECORD_BYTES, RECORDS_AT, unpack_header
from aqltelemetry.journal.labels import NO_LABELS, TABLE_NAME, TableLabels, read_table
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.journal.writer import remove_table
from aqltelemetry.observation import SegmentId
from aqltelemetry.system import syscalls

BAD_SUFFIX = ".bad"
_MAX_SET_ASIDE = 10
_WRITER_CHARS = 16
_HEX = frozenset("0123456789abcdef")
_SET_ASIDE = re.compile(r"([0-9a-f]{16})-([0-9]+)\.bad")


class DeadWriter:
    """A dead writer's segments, locked; `close` leaves those not yet discarded to others.

    `has_evidence` says that its process ended without a stop: once its segments are discarded,
    the owner of the lock makes an autopsy, and calls `finish`. `has_exit` says that its parent
    noted how. `path` is its directory.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd
        self._has_table = False
        self.has_evidence = self.has_exit = False
        self._labels: TableLabels | None = None
        self.segments: list[SealedSegment] = []
        try:
            self._list_segments()
        except BaseException:
            self._unlock()  # otherwise no process could recover it while this one lives
            raise

    def _list_segments(self) -> None:
        paths = dict(self._find())
        last, pid = _last_entered(paths), _pid(paths)
        for number in sorted(paths):
            sealed = SealedSegment(SegmentId(self.path.name, number), paths[number])
            sealed.is_last, sealed.pid = number == last, pid
            sealed.labels = self._read_labels
            self.segments.append(sealed)

    def discard(self, sealed: SealedSegment) -> None:
        """Remove a published segment, and with the last one a directory without evidence."""
        with suppress(OSError):  # it is published again then, to no effect
            sealed.discard()
        self.segments.remove(sealed)
        if not self.segments and not self.has_evidence:
            self.close()

    def finish(self) -> None:
        """Remove what was left for an autopsy, and release the lock."""
        self.has_evidence = False
        self.close()

    def set_aside(self, sealed: SealedSegment) -> None:
        """Rename a damaged segment so that it is kept for inspection and not read again."""
        if sealed.path is not None:
            self._put_aside(sealed.path)
        self.discard(sealed)

    def _put_aside(self, path: Path) -> None:
        root = self.path.parent
        with suppress(OSError):
            syscalls.rename(path, root / f"{self.path.name}-{path.stem}{BAD_SUFFIX}")
            aside = [name for name in syscalls.list_directory(root) if name.endswith(BAD_SUFFIX)]
            for name in aside[:-_MAX_SET_ASIDE]:
                syscalls.unlink(root / name)

    def close(self) -> None:
        """Release the lock; remove the directory if nothing is left in it."""
        if self._lock_fd >= 0:
            if self._has_table and not self.segments:
                remove_table(self.path)
            if not self.segments and not self.has_evidence:
                remove_evidence(self.path)
            remove_empty(self.path)
            self._unlock()

    def _unlock(self) -> None:
        lock_fd, self._lock_fd = self._lock_fd, -1
        with suppress(OSError):
            syscalls.close(lock_fd)

    def _read_labels(self) -> TableLabels:
        """Return the labels of the writer's table, read once, by the thread that reads segments."""
        if self._labels is None:
            self._labels = read_table(self.path) if self._has_table else NO_LABELS
        return self._labels

    def _find(self) -> Iterator[tuple[int, Path]]:
        for name in syscalls.list_directory(self.path):
            path = self.path / name
            is_table, number = name == TABLE_NAME, segment_number(name)
            if is_table or name in NAMES or number is not None:
                if stat.S_ISREG(syscalls.look_at(path).st_mode):
                    self._has_table = self._has_table or is_table
                    self.has_evidence = self.has_evidence or name in OF_A_DEATH
                    self.has_exit = self.has_exit or name == EXIT_NAME
                    if number is not None:
                        yield number, path
                else:  # a directory, a pipe or a link, which no writer makes
                    self._put_aside(path)
            elif path.suffix == NEW_SUFFIX:
                # Its writer was killed before any record could be in it.
                with suppress(OSError):
                    syscalls.unlink(path)


def lock_dead_writers(root: Path) -> Iterator[DeadWriter]:
    """Lock one dead writer after the other; remove the directories of those that left nothing.

    If one can't be locked, raises its OSError after all others were yielded.
    """
    failed: OSError | None = None
    for path in find_writers(root, NEW_SUFFIX):
        try:
            dead = _claim(path)
        except OSError as exc:
            failed = failed or exc
            continue
        if dead is not None:
            yield dead
    if failed is not None:
        raise failed


def _claim(path: Path) -> DeadWriter | None:
    lock_fd = lock(path)
    if lock_fd is None:
        return None
    dead = DeadWriter(path, lock_fd)
    if dead.segments or dead.has_evidence:
        return dead
    dead.close()
    return None


def find_writers(root: Path, suffix: str = "") -> Sequence[Path]:
    """Return the directories of writers, dead or alive, with or without `suffix` in the name."""
    try:
        names = syscalls.list_directory(root)
    except FileNotFoundError:
        return ()
    return [root / name for name in names if _is_writer(name.removesuffix(suffix))]


def find_set_aside(root: Path) -> Iterator[tuple[str, int]]:
    """Yield writer and number of each segment that was set aside."""
    with suppress(FileNotFoundError):
        for name in syscalls.list_directory(root):
            match = _SET_ASIDE.fullmatch(name)
            if match is not None:
                yield match[1], int(match[2])


def _is_writer(name: str) -> bool:
    return len(name) == _WRITER_CHARS and _HEX.issuperset(name)


def _last_entered(paths: Mapping[int, Path]) -> int | None:
    """Return the highest number of a segment that was recorded to; later ones are spares."""
    for number in sorted(paths, reverse=True):
        with suppress(OSError, SegmentError):
            data = read_file(paths[number], ANCHORS_AT + RECORD_BYTES)
            # A damaged one counts as recorded to, since it is no intact spare.
            if any(data[ANCHORS_AT:]) or not data.startswith(MAGIC):
                return number
    return None


def _pid(paths: Mapping[int, Path]) -> int:
    """Return the PID in the first intact header; 0 if there is none."""
    for path in paths.values():
        with suppress(OSError, SegmentError):
            return unpack_header(read_file(path, RECORDS_AT)).pid
    return 0
