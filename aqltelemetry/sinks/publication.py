"""The last step of a file: from its temporary name to its final one, at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system import syscalls

# What link(2) says where a file system has no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Publication(NamedTuple):
    """A complete temporary file, and the name it is to have."""

    path: str
    name: FileName


def publish(
    directory: str, publications: Sequence[Publication], *, with_fsync: bool = False
) -> int:
    """Give complete files their names; return how many bytes appeared by that.

    A name that exists means that the same rows were published before. With `with_fsync`
    content and names outlive a loss of power once this returns. Raises OSError where
    a file can't be named; those before it are published then.
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
    # Not tried again where it fails: what the kernel could not write, it may have
    # forgotten. The rows are written anew, from the journal, into another file.
    fd = syscalls.open_file(path, os.O_RDONLY)
    try:
        syscalls.synchronise(fd)
    finally:
        syscalls.close(fd)


def take_name(path: str, final: str) -> None:
    """Give a file its final name; raises FileExistsError where that is taken."""
    try:
        syscalls.link(path, final)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, "published before", final) from None
        syscalls.rename(path, final)
