from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry import Monitor
from aqltelemetry.commands.cli import main


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("doctor", *arguments))


async def test_a_running_recording_has_no_problem(directory: Path) -> None:
    async with Monitor(directory):
        for arguments in ((str(directory),), ("--pid", str(os.getpid()))):
            result = _run(*arguments)
            assert result.exit_code == 0, result.output
            assert f"process {os.getpid()}, writer" in result.output
            assert not any(line.startswith("!") for line in result.output.splitlines())


def test_problems_are_marked(directory: Path) -> None:
    result = _run(str(directory))
    assert result.exit_code == 1
    assert f"! directory    {directory} does not exist" in result.output


@pytest.mark.parametrize("arguments", [(".", "--pid", "1"), ("--dir", ".", "--pid", "1")])
def test_a_directory_and_a_process_exclude_each_other(arguments: tuple[str, ...]) -> None:
    result = _run(*arguments)
    assert result.exit_code == 2
    assert "give either DIR or --pid" in result.output


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError, "there is no process {pid}"),
        (PermissionError, "the system does not let this process examine process {pid}"),
    ],
)
def test_a_process_that_cannot_be_examined_is_an_error(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError], text: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pathlib.Path.read_bytes", fail)
    result = _run("--pid", str(os.getpid()))
    assert result.exit_code == 1
    assert text.format(pid=os.getpid()) in result.output
