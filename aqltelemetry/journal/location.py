"""Chooses the directory of a journal: on a memory file system if that survives the process.

A store to a mapped page of a file on a disk may wait for the disk; on a memory file system it
never does. The memory file systems of a container end with the container, so there the journal
is next to the CSV files, which are on a volume.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

AUTO = "auto"
MEMORY = "memory"
"""Journal directory names with a meaning: choose by rule; use no file at all."""

_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4  # the field's index
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")
_SHM = Path("/dev/shm")  # noqa: S108 - owner, mode and links are checked before use
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
# Mapped files are not safe to write there: remote, or copied on write by a daemon.
_UNSUITED_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse", "fuseblk", "afs", "ceph", "vboxsf"}
)
_CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))
_CONTAINER_GROUPS = ("docker", "kubepods", "containerd", "lxc")


class UnsuitableLocationError(OSError):
    """Raised if no directory is suitable for a journal; recording then uses memory."""


def journal_root(
    directory: str,
    journal_dir: str = AUTO,
    *,
    mounts: Path = _MOUNTS,
    shm: Path = _SHM,
    container: bool | None = None,
) -> Path:
    """Return the private directory that holds the journals for a monitoring directory.

    It is created if missing, with mode 0700. Raises UnsuitableLocationError if the platform or
    the file system is not suitable, or other users can access the directory.
    """
    root = _suitable(directory, journal_dir, mounts, _shared(shm), container)
    for step in _steps(root, directory):
        _make(step)
        _check_private(step, os.geteuid())
    return root


def find_journal_root(directory: str, journal_dir: str, uid: int) -> Path:
    """Return the directory that `journal_root` would return for a user; create nothing.

    Raises UnsuitableLocationError as `journal_root` does.
    """
    root = _suitable(directory, journal_dir, _MOUNTS, _shared(_SHM, uid), None)
    for step in _steps(root, directory):
        if step.exists():
            _check_private(step, uid)
    return root


def _suitable(
    directory: str, journal_dir: str, mounts: Path, shared: Path, container: bool | None
) -> Path:
    if journal_dir == MEMORY or sys.platform != "linux":
        msg = "recording in memory, as asked for or as this platform needs"
        raise UnsuitableLocationError(msg)
    root = _choose(directory, journal_dir, mounts, shared, container)
    kind = file_system(root, mounts)
    if kind.split(".")[0] in _UNSUITED_FILE_SYSTEMS:
        msg = f"{root}: a journal can't be mapped on {kind}"
        raise UnsuitableLocationError(msg)
    return root


def all_roots(
    directory: str, journal_dir: str = AUTO, *, shm: Path = _SHM, uid: int | None = None
) -> Sequence[Path]:
    """Return each place where journals for a monitoring directory may have been left.

    `uid` is the user that owns them, by default this process's.
    """
    if journal_dir not in (AUTO, MEMORY):
        return (_below(Path(journal_dir), directory),)
    return (_below(_shared(shm, uid), directory), _next_to(directory))


def file_system(path: Path, mounts: Path = _MOUNTS) -> str:
    """Return the type of the file system that `path` is or would be on; '' if unknown.

    `mounts` is a table as described in proc_pid_mountinfo(5). It is compared as bytes, since
    file names are bytes; a malformed line is skipped.
    """
    wanted = os.fsencode(os.path.realpath(path)) + b"/"
    best, kind = b"", b""
    try:
        lines = mounts.read_bytes().split(b"\n")
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(b" - ")
        fields, types = left.split(b" "), right.split(b" ")
        point = _OCTAL.sub(_unescaped, fields[_MOUNT_POINT]) if len(fields) > _MOUNT_POINT else b""
        # If two are mounted at one path, the later one hides the earlier.
        if point and len(point) >= len(best) and wanted.startswith(point.rstrip(b"/") + b"/"):
            best, kind = point, types[0]
    return os.fsdecode(kind)


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 8),))


def _choose(
    directory: str, journal_dir: str, mounts: Path, shared: Path, container: bool | None
) -> Path:
    if journal_dir != AUTO:
        return _below(Path(journal_dir), directory)
    if file_system(Path(directory), mounts) in _MEMORY_FILE_SYSTEMS:
        return _next_to(directory)
    in_container = is_container() if container is None else container
    if in_container or file_system(shared.parent, mounts) not in _MEMORY_FILE_SYSTEMS:
        return _next_to(directory)
    return _below(shared, directory)


def is_container() -> bool:
    """Return whether this process seems to run in a container."""
    if any(path.exists() for path in _CONTAINER_FILES):
        return True
    try:
        groups = Path("/proc/1/cgroup").read_text(errors="replace")
    except OSError:
        return False
    return any(group in groups for group in _CONTAINER_GROUPS)


def _shared(shm: Path, uid: int | None = None) -> Path:
    return shm / f"aqltelemetry-{os.geteuid() if uid is None else uid}"


def _next_to(directory: str) -> Path:
    return Path(directory) / ".journal"


def _below(root: Path, directory: str) -> Path:
    # The full name is in every segment's header; this one only has to be distinct.
    digest = hashlib.blake2s(os.fsencode(os.path.realpath(directory)), digest_size=8)
    return root / digest.hexdigest()


def _steps(root: Path, directory: str) -> Sequence[Path]:
    return (root,) if root.parent == Path(directory) else (root.parent, root)


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def _check_private(path: Path, uid: int) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        msg = f"{path}: must be a directory, and no link to one"
        raise UnsuitableLocationError(msg)
    if found.st_uid != uid or found.st_mode & 0o022:
        msg = f"{path}: must belong to this user, and no other may write to it"
        raise UnsuitableLocationError(msg)
