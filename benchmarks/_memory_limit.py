"""A control group that limits memory, of version 1 or 2 of the kernel's control groups."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

_NUMBERS = count(1)


@contextmanager
def memory_limit(limit_bytes: int, root: Path = Path("/sys/fs/cgroup")) -> Iterator[Path]:
    """Make a control group; yield the file by which a process enters it.

    Raises OSError where there is no right to make groups that limit memory.
    """
    older = root / "memory"
    base, name = (older, "memory.limit_in_bytes") if older.exists() else (root, "memory.max")
    group = base / f"aqltelemetry-{os.getpid()}-{next(_NUMBERS)}"
    group.mkdir()
    try:
        (group / name).write_text(str(limit_bytes))
        yield group / "cgroup.procs"
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    for _ in range(100):  # processes that were killed leave it a moment later
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)
