from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry import Monitor
from aqltelemetry.commands.cli import main


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("doctor", *arguments))


async def test_all_is_well_where_somebody_records(directory: Path) -> None:
    async with Monitor(directory):
        for arguments in ((str(directory),), ("--pid", str(os.getpid()))):
            result = _run(*arguments)
            assert result.exit_code == 0, result.output
            assert f"process {os.getpid()}, writer" in result.output
            assert not any(line.startswith("!") for line in result.output.splitlines())


def test_what_is_not_well_is_marked(directory: Path) -> None:
    result = _run(str(directory))
    assert result.exit_code == 1
    assert f"! directory    {directory} does not exist" in result.output


@pytest.mark.parametrize("arguments", [(".", "--pid", "1"), ("--dir", ".", "--pid", "1")])
def test_it_is_of_a_directory_or_of_a_process(arguments: tuple[str, ...]) -> None:
    result = _run(*arguments)
    assert result.exit_code == 2
    assert "give either DIR or --pid" in result.output


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError, "there is no process {pid}"),
        (PermissionError, "the system does not let this process examine process {pid}"),
    ],
)
def test_a_process_that_cannot_be_examined_is_told(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError], told: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pathlib.Path.read_bytes", fail)
    result = _run("--pid", str(os.getpid()))
    assert result.exit_code == 1
    assert told.format(pid=os.getpid()) in result.output
