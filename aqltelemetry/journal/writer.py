"""A process's directory in the journal, which is locked, and the segments in it.

The writer lives for as long as the directory's `flock` is held. The kernel releases it when the
process dies, for any reason, and no PID is ever compared.
The lock belongs to a descriptor that a forked child closes, so neither a child nor a mapping
keeps it.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.dir_lock import NEW_SUFFIX, is_locked_by, make_locked, remove_empty
from aqltelemetry.journal.evidence import (
    ROUTES_NAME,
    has_last_words,
    remove_evidence,
    write_evidence,
)
from aqltelemetry.journal.files import SEGMENT_SUFFIX, segment_name
from aqltelemetry.journal.in_flight import FILE_BYTES, FILE_NAME, InFlightHeader
from aqltelemetry.journal.labels import (
    TABLE_BYTES,
    TABLE_NAME,
    LabelLimit,
    LabelTable,
    pack_table_header,
    random_table_base,
)
from aqltelemetry.journal.segment import MANY_LABELS, Segment, random_id_base
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import yield_gil
from aqltelemetry.system.extensions import choose

if TYPE_CHECKING:
    from aqltelemetry.journal import records
else:
    records = choose("aqltelemetry.journal.records")

_FREE_BYTES = 64 << 20
_FREE_SHARE = 20
# The part of the label entries that is used before the writer has a label table.
_USED = (
    (fmt.LABELS_AT, fmt.LABELS_AT + MANY_LABELS * fmt.LABEL_SLOT_BYTES),
    (fmt.RECORDS_AT, fmt.SEGMENT_BYTES),
)


class WriterOptions(NamedTuple):
    """What each segment's header contains: where its observations are published, and how.

    `labels` is shared by all segments of a process. The names of its writers begin with
    `run`, some hexadecimal digits.
    """

    directory: str
    max_file_bytes: int
    epoch_ns: Callable[[], int]
    labels: LabelLimit
    run: str = ""


class Writer:
    """Makes and removes the segments of one recording process.

    `path` is None for a writer whose segments are anonymous memory, which ends with the
    process. `table` is its
    label table: None until one is made, and after its directory was removed.
    """

    def __init__(
        self, writer: str, options: WriterOptions, path: Path | None, lock_fd: int
    ) -> None:
        self.name = writer
        self.path = path
        self.pid = os.getpid()
        self.table: LabelTable | None = None
        self._may_have_table = False
        self._options = options
        self._lock_fd = lock_fd
        self._sequence = 0

    @classmethod
    def in_memory(cls, options: WriterOptions) -> Writer:
        """Make a writer without files."""
        return cls(_new_name(options.run), options, None, -1)

    @classmethod
    def in_journal(cls, root: Path, options: WriterOptions) -> Writer:
        """Make and lock a directory for a new writer; raises OSError where that fails."""
        path = root / _new_name(options.run)
        lock_fd = make_locked(path)
        try:
            return cls(path.name, options, path, lock_fd)
        except BaseException:
            syscalls.close(lock_fd)
            remove_empty(path)
            raise

    def new_segment(self, yield_gil: Callable[[], None] = yield_gil) -> Segment:
        """Make the next segment, of full size, with the pages in memory that will be used.

        `yield_gil` is called between pieces of the work. Raises OSError where there is no
        room for it; nothing is left behind then.
        """
        header = fmt.Header(
            writer=self.name,
            sequence=self._sequence + 1,
            pid=self.pid,
            id_base=random_id_base(),
            max_file_bytes=self._options.max_file_bytes,
            created_ns=self._options.epoch_ns(),
            directory=self._options.directory,
        )
        labels = self._options.labels
        segment = (
            _anonymous(header, labels)
            if self.path is None
            else self._mapped(header, self.path, labels, yield_gil)
        )
        self._sequence = header.sequence
        for start, stop in _USED:
            _touch(segment.map, start, stop, yield_gil)
        if self.table is not None:
            segment.share(self.table)
        return segment

    @property
    def table_bytes(self) -> int:
        """The size of its label table, which may not exist yet."""
        return 0 if self.path is None else TABLE_BYTES

    def make_table(self) -> LabelTable:
        """Make the label table, which all later segments share.

        It does not yield the interpreter lock, since the table is needed soon; its pages are
        allocated when labels are stored.
        Raises OSError and leaves nothing behind, as for a segment.
        """
        id_base = random_table_base()
        mapped = None
        if self.path is not None:
            self._may_have_table = True
            header = pack_table_header(self.name, id_base)
            mapped = self._file(self.path / TABLE_NAME, TABLE_BYTES, header, _keep_gil)
        self.table = LabelTable(mapped, id_base)
        return self.table

    def make_in_flight(self, at_ns: int, offset_ns: int, boot: str) -> mmap.mmap:
        """Make the file of the requests in flight, with all of its pages in memory.

        The arguments are those of its header. Raises OSError and leaves nothing behind, as for
        a segment.
        """
        header = InFlightHeader(self.name, self.pid, at_ns, offset_ns, boot).pack()
        if self.path is None:
            mapped = mmap.mmap(-1, FILE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            mapped[: len(header)] = header
        else:
            mapped = self._file(self.path / FILE_NAME, FILE_BYTES, header, yield_gil)
        _touch(mapped, len(header), FILE_BYTES, yield_gil)
        return mapped

    def store_routes(self, templates: Sequence[str]) -> None:
        """Store the templates of the application's routes for an autopsy; raises nothing."""
        if self.path is not None and templates:
            with suppress(OSError):
                write_evidence(self.path, ROUTES_NAME, templates)

    def _mapped(
        self, header: fmt.Header, path: Path, labels: LabelLimit, yield_gil: Callable[[], None]
    ) -> Segment:
        final = path / segment_name(header.sequence)
        mapped = self._file(final, fmt.SEGMENT_BYTES, header.pack(), yield_gil)
        return Segment(mapped, header, final, labels)

    def _file(
        self, final: Path, size_bytes: int, header: bytes, yield_gil: Callable[[], None]
    ) -> mmap.mmap:
        try:
            return _make_file(final, size_bytes, header, yield_gil)
        except FileNotFoundError:
            if is_locked_by(self._lock_fd, final.parent):
                raise
            # The directory was removed, with the table in it; recording continues.
            self.table = None
            self._lock_again(final.parent)
            return _make_file(final, size_bytes, header, yield_gil)

    def _lock_again(self, path: Path) -> None:
        """Make and lock the removed directory again; if that fails, the next call tries again."""
        # The old lock, on the removed directory, is kept until then: it shows what to do.
        lock_fd = make_locked(path)
        lock_fd, self._lock_fd = self._lock_fd, lock_fd
        with suppress(OSError):
            syscalls.close(lock_fd)

    def abandon_in_child(self) -> None:
        """Give up the parent's lock in a forked child, without releasing it."""
        if self._lock_fd >= 0:
            syscalls.close(self._lock_fd)
            self._lock_fd = -1

    def close(self) -> None:
        """Release the lock; the directory goes if it is empty, else others recover it."""
        lock_fd, self._lock_fd = self._lock_fd, -1
        if lock_fd >= 0 and self.path is not None:
            if self._may_have_table:
                remove_table(self.path)
                self.table = None
            if not has_last_words(self.path):  # else the stop is a part of the end
                remove_evidence(self.path)
            remove_empty(self.path)
            with suppress(OSError):
                syscalls.close(lock_fd)
            remove_empty(self.path.parent)


def _new_name(run: str) -> str:
    return (run + os.urandom(8).hex())[:16]


def _anonymous(header: fmt.Header, labels: LabelLimit) -> Segment:
    mapped = mmap.mmap(-1, fmt.SEGMENT_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    data = header.pack()
    mapped[: len(data)] = data
    return Segment(mapped, header, None, labels)


def _make_file(
    final: Path, size_bytes: int, header: bytes, yield_gil: Callable[[], None]
) -> mmap.mmap:
    made = final.with_suffix(NEW_SUFFIX)
    fd = syscalls.open_file(made, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _check_room(fd, size_bytes)
        yield_gil()
        # If the space is allocated now, a full disk is an error here. With a sparse file, a
        # later store would kill the application by SIGBUS.
        syscalls.allocate(fd, size_bytes)
        yield_gil()
        mapped = syscalls.map_file(fd, size_bytes)
        mapped[: len(header)] = header
        syscalls.rename(made, final)
    except BaseException:
        with suppress(OSError):
            syscalls.unlink(made)
        raise
    finally:
        syscalls.close(fd)
    return mapped


def _touch(mapped: mmap.mmap, start: int, stop: int, yield_gil: Callable[[], None]) -> None:
    """Make pages present and writable, so that no record waits for a page.

    This is done in pieces. MAP_POPULATE would hold the interpreter lock for long, and the pages
    of a file on a disk would still become writable one by one.
    """
    for piece in range(start, stop, records.TOUCHED_BYTES):
        yield_gil()
        records.touch(mapped, piece, min(piece + records.TOUCHED_BYTES, stop))


def _keep_gil() -> None:
    pass


def remove_table(directory: Path) -> None:
    """Remove the label table of a writer without segments; the caller holds its lock."""
    with suppress(OSError):
        if not any(name.endswith(SEGMENT_SUFFIX) for name in syscalls.list_directory(directory)):
            syscalls.unlink(directory / TABLE_NAME)


def _check_room(fd: int, size_bytes: int) -> None:
    room = syscalls.free_space(fd)
    free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if free - size_bytes < min(_FREE_BYTES, total // _FREE_SHARE):
        raise OSError(errno.ENOSPC, "the journal leaves the last of the free space alone")
