"""Writes an archive: complete, on the disk, and compared with its CSV files, or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

import numpy as np

from aqltelemetry.archive.csv_file import Content
from aqltelemetry.errors import ArchiveError
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.archives.checksums import add_by_code, keys
from aqltelemetry.reading.archives.rows import FILE, read_parts
from aqltelemetry.reading.rows import codes_type, join
from aqltelemetry.sinks import archives
from aqltelemetry.sinks.archives import ArchiveName, Member
from aqltelemetry.sinks.publication import take_name
from aqltelemetry.system import syscalls

_FILE_MODE = 0o640
_BUFFER_BYTES = 1 << 20


def write_archive(directory: str, contents: Sequence[Content]) -> ArchiveName:
    """Write the archive of some files, of one prefix and in order; return its name.

    It appears when it is complete and on the disk, and was read again and found to contain the
    same rows.

    Raises:
        OSError: It can't be written. Nothing is left of it, if that can be removed.
        ArchiveError: It does not contain what it should.
    """
    members = [content.member for content in contents]
    name = archives.name_of(member.name for member in members)
    path = os.path.join(directory, str(name))
    temporary = os.path.join(directory, archives.temporary(name))
    with suppress(FileNotFoundError):  # of a process that was killed
        syscalls.unlink(temporary)
    try:
        _write(temporary, contents, members)
        check(temporary, members)
        with suppress(FileExistsError):
            take_name(temporary, path)
    finally:
        with suppress(OSError):
            syscalls.unlink(temporary)
    check_same(path, members)
    synchronise(directory)
    return name


def check(path: str, members: Sequence[Member]) -> None:
    """Compare the rows of an archive with numbers and checksums; raises ArchiveError."""
    counts = np.zeros(len(members), np.int64)
    sums = np.zeros(len(members), np.uint64)
    for part in read_parts(path):
        counts += np.bincount(part.file_codes, minlength=len(members))
        add_by_code(sums, part.file_codes, keys(part.rows))
    expected = [(member.rows, member.checksum) for member in members]
    if [*zip(counts.tolist(), sums.tolist(), strict=True)] != expected:
        raise ArchiveError(path, "it does not contain the rows of its files")


def check_same(path: str, members: Sequence[Member]) -> None:
    """Raise ArchiveError unless an archive's list of files is this one."""
    if archives.read_members(path) != list(members):
        raise ArchiveError(path, "it exists, and contains other files than its name says")


def synchronise(path: str) -> None:
    """Write a file or directory to the disk; raises OSError."""
    fd = syscalls.open_file(path, os.O_RDONLY)
    try:
        syscalls.synchronise(fd)
    finally:
        syscalls.close(fd)


def _write(path: str, contents: Sequence[Content], members: Sequence[Member]) -> None:
    rows = join([content.rows for content in contents])
    counts = [len(content.rows) for content in contents]
    codes = np.repeat(np.arange(len(contents), dtype=codes_type(len(contents))), counts)
    # By writer, since the times of one are closer to each other than to another's: smaller
    # differences, and the other columns take next to nothing.
    order = encoding.sorted_by(rows.timepoints_ns, rows.process_codes, encoding.request_ranks(rows))
    table = encoding.table(
        rows[order], for_archive=True, integers={FILE: codes[order].astype(np.int32)}
    )
    with new_file(path) as file:
        writer = encoding.open_writer(file, table.schema, archives.metadata(members))
        encoding.write(writer, table)
        writer.close()


@contextmanager
def new_file(path: str) -> Iterator[BinaryIO]:
    """Open a new file to write to, which is on the disk at the end; raises OSError."""
    fd = syscalls.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    try:
        with io.BufferedWriter(_Output(fd), _BUFFER_BYTES) as file:
            yield file
        syscalls.synchronise(fd)
    finally:
        syscalls.close(fd)


class _Output(io.RawIOBase):
    """Writes by `syscalls.write`."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return syscalls.write(self._fd, data)
