"""What a thread waits for, by the number of the system call that it is in."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG, S_IFSOCK

FUTEX = "futex"
SLEEP = "sleep"
CHILD = "child process"
READY = "several descriptors"
DESCRIPTOR = "descriptor"
FILES = "file system"

# Numbers of x86-64 and aarch64; on other machines no call is known.
_NUMBERS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    FUTEX: ((202, 449), (98, 449)),
    SLEEP: ((34, 35, 230, 128), (101, 115, 137)),
    CHILD: ((61, 247), (95, 260)),
    READY: ((7, 23, 232, 270, 271, 281, 441), (22, 72, 73, 441)),
    DESCRIPTOR: (
        (
            *(0, 1, 17, 18, 19, 20, 40, 42, 43, 44, 45, 46, 47, 72, 73, 74, 75),
            *(76, 77, 275, 276, 277, 285, 288, 295, 296, 299, 307, 326, 16),
        ),
        (
            *(25, 29, 32, 46, 47, 63, 64, 65, 66, 67, 68, 69, 70, 71, 75, 76),
            *(82, 83, 84, 202, 203, 206, 207, 211, 212, 242, 243, 269, 285),
        ),
    ),
    FILES: (
        (2, 4, 5, 6, 21, 78, 80, 82, 83, 84, 85, 86, 87, 88, 90, 162, 217, 257, 262, 263, 264, 332),
        (33, 34, 35, 37, 38, 48, 49, 56, 61, 79, 80, 81, 276, 291),
    ),
}
_POLLS = ((7, 271), (73,))
_WAITS_BY_ID = ((247,), (95,))
_MACHINES = {"x86_64": 0, "amd64": 0, "aarch64": 1, "arm64": 1}
_KINDS = {
    S_IFSOCK: "socket",
    S_IFIFO: "pipe",
    S_IFREG: "file",
    S_IFDIR: "directory",
    S_IFCHR: "device",
    S_IFBLK: "disk",
}


def call_names(machine: str = platform.machine()) -> Mapping[int, str]:
    """Return what a thread waits for, by the number of the system call, on a kind of machine."""
    at = _MACHINES.get(machine.lower())
    if at is None:
        return {}
    return {number: name for name, numbers in _NUMBERS.items() for number in numbers[at]}


def polls(machine: str = platform.machine()) -> tuple[int, ...]:
    """Return the numbers of the calls whose first arguments are those of poll(2)."""
    return _POLLS[_MACHINES.get(machine.lower(), 0)]


def waits_by_id(machine: str = platform.machine()) -> tuple[int, ...]:
    """Return the numbers of the calls whose second argument is the child that is waited for."""
    return _WAITS_BY_ID[_MACHINES.get(machine.lower(), 0)]


def descriptor_name(kind: int) -> str:
    """Return the kind of an open descriptor in words; "descriptor" if it is not known."""
    return _KINDS.get(kind, DESCRIPTOR)
