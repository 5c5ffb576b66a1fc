"""The commands `off` and `on` switch recordings of running processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.commands.cli import main
from aqltelemetry.runtime.control_files import ControlFiles
from servers import recover

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]
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


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@contextlib.contextmanager
def _service(directory: Path, before: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", before + _PROGRAM, str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_all_running_processes_are_switched(directory: Path, rows: Rows) -> None:
    with _service(directory) as one, _service(directory) as other:
        result = _run("off", str(directory))
        assert result.output == f"recordings into {directory} are switched off\n"
        assert [_line(one), _line(other)] == ["off", "off"]
        assert "already switched off" in _run("off", str(directory)).output
        assert _run("on", str(directory)).exit_code == 0
        assert [_line(one), _line(other)] == ["on", "on"]
    await recover(directory)
    switched = [(row["PID"], row["Measurement"]) for row in rows("runtime")]
    assert sorted(switched) == sorted(
        (str(each.pid), value) for each in (one, other) for value in ("0.0", "1.0")
    )


@pytest.mark.parametrize("command", ["on", "off"])
def test_a_missing_directory_cannot_be_switched(directory: Path, command: str) -> None:
    result = _run(command, str(directory))
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_a_read_only_directory_cannot_be_switched(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ControlFiles, "switch", refuse)
    result = _run("off", str(directory))
    assert result.exit_code == 1
    assert "can't be switched off: Permission denied" in result.output
