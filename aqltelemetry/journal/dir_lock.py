"""The lock on a writer's directory, which shows other processes that its process lives."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import pause

NEW_SUFFIX = ".new"
"""Suffix of directories and files that do not have their final name yet."""
_TRIES = 8
_FIRST_WAIT_S = 0.001
_OUTER_MODE = 0o750


def make_locked(path: Path) -> int:
    """Make a directory and lock it before it gets its name; return the lock's descriptor."""
    made = path.with_name(path.name + NEW_SUFFIX)
    for number in range(_TRIES):
        if number:  # the process that holds the lock may wait for a processor
            pause(_FIRST_WAIT_S * 2 ** (number - 1))
        # A recovering process may remove it before it is locked, and a stopping one may
        # remove its parent while that is empty.
        with suppress(FileExistsError, FileNotFoundError):
            syscalls.make_directories(path.parent.parent, _OUTER_MODE)
            with suppress(FileExistsError):
                syscalls.make_directory(path.parent, 0o700)
            syscalls.make_directory(made, 0o700)
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
            syscalls.rename(made, path)
    except BaseException:
        remove_empty(made)
        if lock_fd is not None:
            syscalls.close(lock_fd)
        raise
    return lock_fd


def lock(directory: Path) -> int | None:
    """Lock a writer's directory; None where it is gone or another process holds it."""
    try:
        fd = syscalls.open_file(directory, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    is_ours = False
    try:
        syscalls.lock(fd)
        is_ours = is_locked_by(fd, directory)  # else another process removed it meanwhile
    except BlockingIOError:
        pass
    finally:
        if not is_ours:
            syscalls.close(fd)
    return fd if is_ours else None


def is_alive(directory: Path) -> bool:
    """Return whether a process holds the lock of a writer's directory."""
    fd = lock(directory)
    if fd is None:
        return directory.is_dir()
    syscalls.close(fd)
    return False


def lock_holder(directory: Path, locks: Path = Path("/proc/locks")) -> int:
    """Return the PID of the process that holds the lock; 0 if it can't be seen.

    By proc_locks(5), which shows the locks of processes in the PID namespace of this one.
    """
    with suppress(OSError, ValueError):
        found = syscalls.look_at(directory)
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for line in locks.read_text().splitlines():
            fields = line.split()
            if "FLOCK" in fields and "->" not in fields and device in fields:
                return max(int(fields[fields.index(device) - 1]), 0)
    return 0


def remove_empty(directory: Path) -> None:
    """Remove a directory if it is empty."""
    with suppress(OSError):
        syscalls.remove_directory(directory)


def is_locked_by(fd: int, directory: Path) -> bool:
    """Return whether `fd` is an open of the directory that has this name now.

    Raises OSError where neither can be found out.
    """
    try:
        return os.path.samestat(syscalls.look_at(directory), syscalls.describe(fd))
    except FileNotFoundError:
        return False
