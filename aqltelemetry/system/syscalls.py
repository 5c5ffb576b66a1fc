"""Every system call that creates or reads the journal and the CSV files.

They are in one module so that tests can make the n-th call fail, once or from then on, or
make it the last one of a process. Nothing is decided here.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

AnyPath: TypeAlias = str | os.PathLike[str]


def open_file(path: AnyPath, flags: int, mode: int = 0o600) -> int:
    """Open a file by `open`; follow no link, and let no child process inherit it."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def close(fd: int) -> None:
    """Close a descriptor, by `close`."""
    os.close(fd)


def read(fd: int, size_bytes: int) -> bytes:
    """Return at most `size_bytes`, by `read`."""
    return os.read(fd, size_bytes)


def write(fd: int, data: Any) -> int:
    """Write bytes and return how many were written, by `write`."""
    return os.write(fd, data)


def describe(fd: int) -> os.stat_result:
    """Return the state of an open file, by `fstat`."""
    return os.fstat(fd)


def look_at(path: AnyPath) -> os.stat_result:
    """Return the state of a file, or of a link itself, by `lstat`."""
    return os.lstat(path)


def free_space(fd: int) -> os.statvfs_result:
    """Return the size and the free space of a file system, by `fstatvfs`."""
    return os.fstatvfs(fd)


def allocate(fd: int, size_bytes: int) -> None:
    """Give a file a size and allocate its space, by `posix_fallocate`."""
    os.posix_fallocate(fd, 0, size_bytes)


def map_file(fd: int, size_bytes: int) -> mmap.mmap:
    """Map a file into memory, shared, by `mmap`."""
    return mmap.mmap(fd, size_bytes)


def lock(fd: int) -> None:
    """Lock a file, by `flock`; raises BlockingIOError if it is locked."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def truncate(path: AnyPath, size_bytes: int) -> None:
    """Set the length of a file, by `truncate`."""
    os.truncate(path, size_bytes)


def synchronise(fd: int) -> None:
    """Write a file or directory to the disk, so that it survives a loss of power, by `fsync`."""
    os.fsync(fd)


def link(path: AnyPath, other: AnyPath) -> None:
    """Give a file a second name, which must not exist, by `link`."""
    os.link(path, other)


def link_by_name(path: AnyPath, other: AnyPath) -> None:
    """Make `other` a symbolic link to a path; raises FileExistsError if the name is taken."""
    os.symlink(path, other)


def rename(path: AnyPath, other: AnyPath) -> None:
    """Change a file's name, by `rename`."""
    os.rename(path, other)


def unlink(path: AnyPath) -> None:
    """Remove a file's name, by `unlink`."""
    os.unlink(path)


def make_directory(path: AnyPath, mode: int) -> None:
    """Make a directory, by `mkdir`."""
    os.mkdir(path, mode)


def make_directories(path: AnyPath, mode: int) -> None:
    """Make a directory and its parents; it may exist."""
    os.makedirs(path, mode, exist_ok=True)


def remove_directory(path: AnyPath) -> None:
    """Remove an empty directory, by `rmdir`."""
    os.rmdir(path)


def list_directory(path: AnyPath) -> Sequence[str]:
    """Return the names in a directory, in alphabetical order."""
    return sorted(os.listdir(path))


def list_unsorted(path: AnyPath) -> Sequence[str]:
    """Return the names in a directory, in the order in which its file system lists them."""
    return os.listdir(path)


@contextmanager
def scan_directory(path: AnyPath) -> Iterator[Iterator[os.DirEntry[str]]]:
    """Iterate over the entries of a directory."""
    with os.scandir(path) as entries:
        yield entries
