"""A recording process that tests of the commands `off`, `on` and `profile` control."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner, Result

from aqltelemetry.commands.cli import main

_PROGRAM = """
import asyncio, sys
from aqltelemetry import monitor, record
from aqltelemetry.recording import recorder
async def busy():
    await asyncio.sleep(0.001)
async def main():
    await monitor.start(sys.argv[1], with_runtime=False)
    print("started", flush=True)
    was_on = True
    while True:
        await busy()
        if recorder.is_on() != was_on:
            was_on = recorder.is_on()
            print("on" if was_on else "off", flush=True)
asyncio.run(main())
"""


def run_command(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@contextlib.contextmanager
def recording_service(directory: Path, before: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", before + _PROGRAM, str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
