"""What every benchmark prints first: the machine, and the versions that it ran with."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from _table import keep


def describe(*packages: str) -> Sequence[str]:
    """Print, and return, the machine, its load, and the versions of Python and of packages."""
    lines = [
        f"{_processor()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}",
        f"{platform.system()} {platform.release()}, {_python()}",
        ", ".join(f"{name} {version(name)}" for name in ("aqltelemetry", *packages)),
    ]
    print("\n".join(lines), end="\n\n")
    keep({"machine": lines})
    return lines


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
