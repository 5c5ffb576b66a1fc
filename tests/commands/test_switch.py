"""The commands `off` and `on` switch recordings of running processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry.runtime.control_files import ControlFiles
from controlled_service import next_line, recording_service, run_command
from servers import recover

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]


async def test_all_running_processes_are_switched(directory: Path, rows: Rows) -> None:
    with recording_service(directory) as one, recording_service(directory) as other:
        result = run_command("off", str(directory))
        assert result.output == f"recordings into {directory} are switched off\n"
        assert [next_line(one), next_line(other)] == ["off", "off"]
        assert "already switched off" in run_command("off", str(directory)).output
        assert run_command("on", str(directory)).exit_code == 0
        assert [next_line(one), next_line(other)] == ["on", "on"]
    await recover(directory)
    switched = [(row["PID"], row["Measurement"]) for row in rows("runtime")]
    assert sorted(switched) == sorted(
        (str(each.pid), value) for each in (one, other) for value in ("0.0", "1.0")
    )


@pytest.mark.parametrize("command", ["on", "off"])
def test_a_missing_directory_cannot_be_switched(directory: Path, command: str) -> None:
    result = run_command(command, str(directory))
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_a_read_only_directory_cannot_be_switched(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ControlFiles, "switch", refuse)
    result = run_command("off", str(directory))
    assert result.exit_code == 1
    assert "can't be switched off: Permission denied" in result.output
