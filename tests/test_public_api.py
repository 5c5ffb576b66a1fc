"""What `import aqltelemetry` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aqltelemetry

_HEAVY = ("pandas", "numpy", "aiohttp", "rich", "click", "matplotlib", "psutil", "aiofiles")


def _python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_the_public_names_are_these() -> None:
    assert set(aqltelemetry.__all__) == {
        *("Monitor", "TelemetryDB", "monitor", "record", "time_block", "time_it"),
    }
    for name in aqltelemetry.__all__:
        assert getattr(aqltelemetry, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = aqltelemetry.nothing


@pytest.mark.parametrize("module", _HEAVY)
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert _python(f"import sys, aqltelemetry; print({module!r} in sys.modules)") == "False"


def test_importing_starts_no_thread_and_opens_no_file() -> None:
    program = """
import asyncio, os, threading
before = sorted(os.listdir("/proc/self/fd"))
import aqltelemetry
print(threading.active_count(), sorted(os.listdir("/proc/self/fd")) == before)
"""
    assert _python(program) == "1 True"


def test_importing_costs_less_than_six_mebibytes() -> None:
    program = """
import asyncio
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
before = rss()
import aqltelemetry
print(rss() - before)
"""
    assert int(_python(program)) < 6 << 20


def test_without_pandas_the_loader_alone_is_missing() -> None:
    program = """
import sys
sys.modules["pandas"] = None
import aqltelemetry
try:
    aqltelemetry.TelemetryDB
except ImportError as exc:
    print(exc)
"""
    assert "pandas" in _python(program)
