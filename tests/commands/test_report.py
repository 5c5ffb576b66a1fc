from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.commands.cli import main
from aqltelemetry.sinks.file_names import FileName, enclosing
from aqltelemetry.system.clock import epoch_ns
from fakes import EPOCH_NS

_ROW = f"Timepoint,Measurement,Label,PID\n{EPOCH_NS},0.5,/version [GET],7\n"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_report_shows_what_was_recorded(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    result = _run("report", str(tmp_path))
    assert result.exit_code == 0
    assert "/version [GET]" in result.output


def test_a_report_covers_a_time_span(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW + f"{EPOCH_NS + 10**9},0.5,/later [GET],7\n")
    result = _run("report", str(tmp_path), "--since", "2023-11-14T22:13:21Z")
    assert "/later [GET]" in result.output
    assert "/version [GET]" not in result.output


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("text", ["yesteryear", "", "5", "5x", "2026-13-01"])
def test_a_wrong_time_is_a_usage_error_that_shows_examples(
    tmp_path: Path, option: str, text: str
) -> None:
    result = _run("report", str(tmp_path), option, text)
    assert result.exit_code == 2
    assert f"{option} {text!r} must be a time, such as 5m, '1 hour ago'" in result.output


@pytest.mark.parametrize("text", ["5m", "-5m", "5m ago", "1 hour ago", "yesterday"])
def test_times_may_be_relative(tmp_path: Path, text: str) -> None:
    rows = f"{epoch_ns() - 30 * 10**9},0.5,/now [GET],7\n"
    (tmp_path / "duration.1.csv").write_text(_ROW + rows)
    result = _run("report", str(tmp_path), "--since", text)
    assert result.exit_code == 0
    assert "/now [GET]" in result.output
    assert "/version [GET]" not in result.output
    assert "/now [GET]" not in _run("report", str(tmp_path), "--until", text).output


def test_a_report_on_an_empty_directory_says_when_the_first_file_appears(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    result = _run("report", str(tmp_path))
    assert result.exit_code == 1
    assert "no files yet; a running service publishes its first about a minute" in result.output


def test_a_report_on_a_time_without_observations_says_so(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    result = _run("report", str(tmp_path), "--since", "2030-01-01")
    assert result.exit_code == 1
    assert "nothing was recorded between --since and --until" in result.output


@pytest.mark.parametrize("text", ["a,b\n1,2\n", f"{_ROW}x,y,z\n", f"{_ROW}1"])
def test_a_foreign_or_damaged_file_is_reported_and_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    (tmp_path / "duration.2.csv").write_text(text)
    (tmp_path / "runtime.2.csv").write_text(text)
    result = _run("report", str(tmp_path))
    assert result.exit_code == 3
    assert "/version [GET]" in result.output
    assert "2 files not read, such as duration.2.csv: " in result.output


def test_a_report_of_compressed_files_and_copies_is_complete(tmp_path: Path) -> None:
    name = FileName("duration", *enclosing(EPOCH_NS, EPOCH_NS), 7, "0" * 16, 1, 1, 0)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(_ROW.encode()))
    (tmp_path / f"Copy of {name}").write_text(_ROW)
    result = _run("report", str(tmp_path))
    assert result.exit_code == 0
    (line,) = (line for line in result.output.splitlines() if "/version [GET]" in line)
    assert line.split("│")[2].strip() == "1"
    assert f"left out: Copy of {name}: it is a copy of {name}.gz" in result.output


def test_recorded_values_are_reported(tmp_path: Path) -> None:
    rows = "".join(f"{EPOCH_NS + n},{n}.5,queue length,7\n" for n in range(3))
    (tmp_path / "custom.1.csv").write_text(f"Timepoint,Measurement,Label,PID\n{rows}")
    result = _run("report", str(tmp_path))
    assert result.exit_code == 0
    (line,) = (line for line in result.output.splitlines() if "queue length" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["custom, queue length", "3", "0.5", "1.5", "2.5", "2.5"]


def test_a_time_may_be_nanoseconds(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    assert _run("report", str(tmp_path), "--since", str(EPOCH_NS)).exit_code == 0
    assert _run("report", str(tmp_path), "--until", str(EPOCH_NS)).exit_code == 1
