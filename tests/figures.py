"""Figures that tests of faults report in addition to their claims."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

_NS_PER_US = 1e3
_KIB = 1024


def spread(times_ns: Sequence[int]) -> str:
    """Say how long something took, mostly and at the most."""
    ordered = sorted(times_ns)
    figures = (
        statistics.median(ordered),
        ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        ordered[-1],
    )
    median, p99, most = (f"{each / _NS_PER_US:,.1f}" for each in figures)
    return f"median {median} µs, p99 {p99} µs, longest {most} µs"


def peak_rss_bytes(pid: int | str = "self") -> int:
    """Return the most memory that a process has had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * _KIB
    raise ValueError(pid)


def rss_bytes() -> int:
    """Return the memory that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
