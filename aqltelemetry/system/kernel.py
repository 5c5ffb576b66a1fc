"""What the kernel says of this machine and of the memory that this process may use."""

from __future__ import annotations

from pathlib import Path

UNKNOWN = -1
"""The number of kills where the kernel does not say it."""
_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_OOM_KILL = "oom_kill"


def boot_id(proc: Path = _PROC) -> str:
    """Return the kernel's name of the time since the machine was started; empty if unknown."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def find_oom_counter(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> str:
    """Return the path of the file that counts kills for lack of memory; empty if there is none.

    That of the control group of this process, as described in the kernel's
    admin-guide/cgroup-v2 (`memory.events`) and cgroup-v1 (`memory.oom_control`), where there is
    one; else that of the machine, in proc_vmstat(5).
    """
    for path in (*_group_files(proc, cgroups), proc / "vmstat"):
        if read_oom_kills(str(path)) != UNKNOWN:
            return str(path)
    return ""


def read_oom_kills(path: str) -> int:
    """Return the count in such a file; UNKNOWN if there is none."""
    try:
        lines = Path(path).read_text().splitlines() if path else []
    except OSError:
        return UNKNOWN
    for line in lines:
        name, _, number = line.partition(" ")
        if name == _OOM_KILL and number.isdigit():
            return int(number)
    return UNKNOWN


def _group_files(proc: Path, cgroups: Path) -> list[Path]:
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        inner = group.strip("/")
        if not controllers:
            found += [cgroups / inner / "memory.events", cgroups / "memory.events"]
        elif "memory" in controllers.split(","):
            root = cgroups / "memory"
            found += [root / inner / "memory.oom_control", root / "memory.oom_control"]
    return found
