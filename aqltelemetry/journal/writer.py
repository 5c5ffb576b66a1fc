"""A process's own place in the journal: a locked directory, and the segments in it.

The writer lives for as long as the directory's `flock` is held. The kernel frees
it at the process's death however that comes about, and no PID is ever compared.
The lock is on an open of its own, closed in a forked child, so neither a mapping
nor a child can keep it.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aqltelemetry import system
from aqltelemetry.clock import breathe
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import LabelLimit
from aqltelemetry.journal.segment import Segment, random_id_base
from aqltelemetry.twins import IS_COMPILED

if IS_COMPILED:
    from aqltelemetry import _rows

SEGMENT_SUFFIX = ".seg"
NEW_SUFFIX = ".new"
_FREE_BYTES = 64 << 20
_FREE_SHARE = 20
_TRIES = 8
_OUTER_MODE = 0o750
_PIECE_BYTES = 128 << 10


@dataclass(frozen=True, slots=True)
class Origin:
    """What every segment of a writer says: where it is to be published, and how.

    `labels` is shared by all segments of a process.
    """

    directory: str
    max_file_bytes: int
    epoch_ns: Callable[[], int]
    labels: LabelLimit = field(default_factory=LabelLimit)


class Writer:
    """Makes and removes the segments of one recording process.

    `path` is None for a writer whose segments are anonymous memory: the same
    recording with a weaker promise, since they die with the process.
    """

    def __init__(self, writer: str, origin: Origin, path: Path | None, lock_fd: int) -> None:
        self.name = writer
        self.path = path
        self.pid = os.getpid()
        self._origin = origin
        self._lock_fd = lock_fd
        self._sequence = 0

    @classmethod
    def in_memory(cls, origin: Origin) -> Writer:
        """Make a writer without files."""
        return cls(os.urandom(8).hex(), origin, None, -1)

    @classmethod
    def in_journal(cls, root: Path, origin: Origin) -> Writer:
        """Make and lock a directory for a new writer; raises OSError where that fails."""
        path = root / os.urandom(8).hex()
        return cls(path.name, origin, path, _make_locked(path))

    def new_segment(self, rest: Callable[[], None] = breathe) -> Segment:
        """Make the next segment, of full size, with every page in memory.

        `rest` is called between pieces of the work. Raises OSError where there is no
        room for it; nothing is left behind then.
        """
        header = fmt.Header(
            writer=self.name,
            sequence=self._sequence + 1,
            pid=self.pid,
            id_base=random_id_base(),
            max_file_bytes=self._origin.max_file_bytes,
            created_ns=self._origin.epoch_ns(),
            directory=self._origin.directory,
        )
        labels = self._origin.labels
        segment = (
            _anonymous(header, labels)
            if self.path is None
            else self._mapped(header, self.path, labels)
        )
        self._sequence = header.sequence
        _touch(segment.map, rest)
        return segment

    def _mapped(self, header: fmt.Header, path: Path, labels: LabelLimit) -> Segment:
        try:
            return _mapped(header, path, labels)
        except FileNotFoundError:
            # Somebody removed the directory; recording outlives that.
            lock_fd, self._lock_fd = self._lock_fd, -1
            system.close(lock_fd)
            self._lock_fd = _make_locked(path)
            return _mapped(header, path, labels)

    def abandon_in_child(self) -> None:
        """Give up the parent's lock in a forked child, without releasing it."""
        if self._lock_fd >= 0:
            system.close(self._lock_fd)
            self._lock_fd = -1

    def close(self) -> None:
        """Release the lock; the directory goes if it is empty, else others recover it."""
        lock_fd, self._lock_fd = self._lock_fd, -1
        if lock_fd >= 0 and self.path is not None:
            remove_empty(self.path)
            with suppress(OSError):
                system.close(lock_fd)
            remove_empty(self.path.parent)


def _anonymous(header: fmt.Header, labels: LabelLimit) -> Segment:
    mapped = mmap.mmap(-1, fmt.SEGMENT_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    data = header.pack()
    mapped[: len(data)] = data
    return Segment(mapped, header, None, labels)


def _mapped(header: fmt.Header, directory: Path, labels: LabelLimit) -> Segment:
    data = header.pack()
    final = directory / f"{header.sequence:06d}{SEGMENT_SUFFIX}"
    made = final.with_suffix(NEW_SUFFIX)
    fd = system.open_file(made, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _check_room(fd)
        # Allocated now, a full disk is an error here; a sparse file would kill
        # the application by SIGBUS at a later store.
        system.allocate(fd, fmt.SEGMENT_BYTES)
        mapped = system.map_file(fd, fmt.SEGMENT_BYTES)
        mapped[: len(data)] = data
        system.rename(made, final)
    except BaseException:
        with suppress(OSError):
            system.unlink(made)
        raise
    finally:
        system.close(fd)
    return Segment(mapped, header, final, labels)


def _touch(mapped: mmap.mmap, rest: Callable[[], None]) -> None:
    """Have each page in memory and writable, so that no record waits for one.

    In pieces: the kernel's own way, MAP_POPULATE, takes long with the interpreter
    lock held, and leaves the pages of a disk file to be made writable one by one.
    The compiled twin needs neither pieces nor the lock.
    """
    if IS_COMPILED:
        _rows.touch(mapped, fmt.LABELS_AT, mmap.PAGESIZE)
        return
    for piece in range(fmt.LABELS_AT, fmt.SEGMENT_BYTES, _PIECE_BYTES):
        for at in range(piece, min(piece + _PIECE_BYTES, fmt.SEGMENT_BYTES), mmap.PAGESIZE):
            mapped[at] = 0
        rest()


def _make_locked(path: Path) -> int:
    """Make a directory, locked before it has its name; return the lock."""
    made = path.with_name(path.name + NEW_SUFFIX)
    for _ in range(_TRIES):
        # A recoverer may have it removed before it is locked, and another process
        # that stops its root while that is empty.
        with suppress(FileExistsError, FileNotFoundError):
            system.make_directories(path.parent.parent, _OUTER_MODE)
            with suppress(FileExistsError):
                system.make_directory(path.parent, 0o700)
            system.make_directory(made, 0o700)
            lock_fd = _lock_and_rename(made, path)
            if lock_fd is not None:
                return lock_fd
    raise OSError(errno.EAGAIN, "no journal directory could be made and locked", str(path))


def _lock_and_rename(made: Path, path: Path) -> int | None:
    """Lock a directory and give it its name; leave nothing where that fails."""
    lock_fd = None
    try:
        lock_fd = lock(made)
        if lock_fd is not None:
            system.rename(made, path)
    except BaseException:
        remove_empty(made)
        if lock_fd is not None:
            system.close(lock_fd)
        raise
    return lock_fd


def lock(directory: Path) -> int | None:
    """Lock a writer's directory; None where it is gone or another process holds it."""
    try:
        fd = system.open_file(directory, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        system.lock(fd)
    except BlockingIOError:
        system.close(fd)
        return None
    except BaseException:
        system.close(fd)
        raise
    return fd


def remove_empty(directory: Path) -> None:
    """Remove a directory if nothing is in it."""
    with suppress(OSError):
        system.remove_directory(directory)


def _check_room(fd: int) -> None:
    room = system.free_space(fd)
    free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if free - fmt.SEGMENT_BYTES < min(_FREE_BYTES, total // _FREE_SHARE):
        raise OSError(errno.ENOSPC, "the journal leaves the last of the free space alone")
