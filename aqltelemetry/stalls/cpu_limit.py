"""Finds the file that says how long the control group of this process was kept from processors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNTS = "/sys/fs/cgroup"
_CONTROLLERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def throttling_file(own: str = "/proc/self/cgroup", mounts: str = _MOUNTS) -> str | None:
    """Return `cpu.stat` of the innermost group of this process that has a limit; None if none has.

    Both versions of control groups are looked at: `cpu.max` of version 2 and `cpu.cfs_quota_us`
    of version 1, see cgroups(7).
    """
    with suppress(OSError, ValueError):
        for line in Path(own).read_text(encoding="ascii", errors="replace").splitlines():
            _, controllers, path = line.split(":", 2)
            for root in _roots(controllers, mounts):
                for group in _with_parents(root, path):
                    if _is_limited(group):
                        return str(group / "cpu.stat")
    return None


def open_throttling_file() -> int:
    """Return a descriptor of that file; -1 if there is none."""
    path = throttling_file()
    with suppress(OSError):
        return -1 if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return -1


def _roots(controllers: str, mounts: str) -> Iterator[Path]:
    """Yield where a hierarchy of groups may be mounted."""
    if not controllers:
        yield from (Path(mounts), Path(mounts, "unified"))
    elif "cpu" in controllers.split(","):
        yield from (Path(mounts, name) for name in _CONTROLLERS)


def _with_parents(root: Path, path: str) -> Iterator[Path]:
    """Yield a group and those around it; within a container only the root may be visible."""
    group = root / path.strip("/")
    while group != root and root in group.parents:
        yield group
        group = group.parent
    yield root


def _is_limited(group: Path) -> bool:
    for name in ("cpu.max", "cpu.cfs_quota_us"):
        with suppress(OSError):
            words = (group / name).read_text(encoding="ascii").split()
            return bool(words) and words[0].isdigit()
    return False
