"""A program that never waits, so that our threads can only run where it lets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aqltelemetry.system.extensions import have_extensions

pytestmark = pytest.mark.system

_BLOCKS = 400_000
_PROGRAM = f"""
import asyncio, sys
from aqltelemetry import Monitor, time_block

async def main(directory):
    async with Monitor(directory, with_runtime=False) as monitor:
        for _ in range({_BLOCKS} // 50):
            for _ in range(50):
                with time_block("x"):
                    for _ in range(600):
                        pass
            await asyncio.sleep(0)
    print(monitor.stats().published, dict(monitor.stats().dropped))

if sys.argv[2] == "uvloop":
    import uvloop as loops
else:
    import asyncio as loops
loops.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(not have_extensions(), reason="pure Python may drop some, as README says")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_event_loop_that_only_computes_loses_nothing(directory: Path, loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(directory), loop],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.split("\n")[0] == f"{_BLOCKS} {{}}", done.stderr
