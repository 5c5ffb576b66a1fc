from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry.system import descriptors
from aqltelemetry.system.descriptors import reserve_standard_descriptors

Counts = Callable[..., Counter[str]]
_CLOSED = 900

# Run with standard descriptors closed; argv: the directory, a file for what they are then.
_WITHOUT_LOOP = """
import os, sys
{close}
from aqltelemetry import sync
sync.start(sys.argv[1])
with sync.time_block("block"): pass
sync.stop()
"""
_IN_A_LOOP = """
import asyncio, os, sys
from aqltelemetry import monitor, time_block
async def main():
    {close}
    await monitor.start(sys.argv[1])
    with time_block("block"): pass
    await monitor.stop()
asyncio.run(main())
"""
_SHOW = """
with open(sys.argv[2], "w") as shown:
    for fd in {closed}:
        print(os.readlink(f"/proc/self/fd/{{fd}}"), os.get_inheritable(fd), file=shown)
"""


@pytest.mark.parametrize("program", [_WITHOUT_LOOP, _IN_A_LOOP], ids=["no loop", "loop"])
@pytest.mark.parametrize("closed", [(0, 1, 2), (2,)])
def test_a_process_without_standard_descriptors_records_and_ends_normally(
    directory: Path, counts: Counts, tmp_path: Path, program: str, closed: tuple[int, ...]
) -> None:
    shown = tmp_path / "shown"
    close = "; ".join(f"os.close({fd})" for fd in closed)
    source = program.format(close=close) + _SHOW.format(closed=closed)
    command: list[str | Path] = [sys.executable, "-c", source, directory, shown]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    assert counts() == {"block": 1}
    assert shown.read_text() == f"{os.devnull} False\n" * len(closed)


def test_standard_descriptors_that_are_open_are_left_alone() -> None:
    before = [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)]
    opened = set(os.listdir("/proc/self/fd"))
    reserve_standard_descriptors()
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)] == before
    assert len(os.listdir("/proc/self/fd")) == len(opened)


def test_nothing_is_raised_where_there_is_no_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_STANDARD", (_CLOSED,))
    monkeypatch.setattr(os, "devnull", "/nowhere/null")
    reserve_standard_descriptors()


def test_a_number_that_another_thread_took_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_STANDARD", (_CLOSED,))
    before = os.listdir("/proc/self/fd")
    reserve_standard_descriptors()
    assert os.listdir("/proc/self/fd") == before
