"""Publishes complete files: renames each from its temporary to its final name, atomically."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system import syscalls

# Errors of link(2) on a file system without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Publication(NamedTuple):
    """The path of a complete temporary file, and its final name."""

    path: str
    name: FileName


def publish(
    directory: str, publications: Sequence[Publication], *, with_fsync: bool = False
) -> int:
    """Publish files; return the size in bytes of those that were not published before.

    A name that exists already means that the same rows were published before. With
    `with_fsync`, content and names survive a loss of power once this returns. Raises OSError
    if a file can't be renamed; the files before it are published then.
    """
    size_bytes = 0
    if with_fsync:
        for publication in publications:
            _synchronise(publication.path)
    for publication in publications:
        final = os.path.join(directory, str(publication.name))
        file_bytes = syscalls.look_at(publication.path).st_size
        with suppress(FileExistsError):
            take_name(publication.path, final)
            size_bytes += file_bytes
        with suppress(OSError):
            syscalls.unlink(publication.path)
    if with_fsync:
        _synchronise(directory)
    return size_bytes


def _synchronise(path: str) -> None:
    # A failure is not retried: the kernel may have dropped the pages that it could not write.
    # The rows are written again, from the journal, into another file.
    fd = syscalls.open_file(path, os.O_RDONLY)
    try:
        syscalls.synchronise(fd)
    finally:
        syscalls.close(fd)


def take_name(path: str, final: str) -> None:
    """Give a file its final name; raises FileExistsError if that name exists."""
    try:
        syscalls.link(path, final)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, "published before", final) from None
        syscalls.rename(path, final)
