from __future__ import annotations

import builtins
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.cli import main
from fakes import EPOCH_NS

_ROW = f"Timepoint,Measurement,Label,PID\n{EPOCH_NS},0.5,/version [GET],7\n"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_version_is_the_packages() -> None:
    result = _run("--version")
    assert (result.exit_code, result.output) == (
        0,
        f"aqltelemetry, version {version('aqltelemetry')}\n",
    )


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("report", "-h"), ("demo", "--help")])
def test_help_is_there_for_everything(arguments: tuple[str, ...]) -> None:
    result = _run(*arguments)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_it_runs_as_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aqltelemetry", "--version"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert version("aqltelemetry") in done.stdout


def test_a_report_shows_what_was_recorded(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    result = _run("report", str(tmp_path))
    assert result.exit_code == 0
    assert "/version [GET]" in result.output


def test_a_report_may_be_had_of_a_time_span(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW + f"{EPOCH_NS + 10**9},0.5,/later [GET],7\n")
    result = _run("report", str(tmp_path), "--since", "2023-11-14T22:13:21")
    assert "/later [GET]" in result.output
    assert "/version [GET]" not in result.output


def test_what_is_no_time_is_a_usage_error(tmp_path: Path) -> None:
    result = _run("report", str(tmp_path), "--since", "yesteryear")
    assert result.exit_code == 2
    assert "--since" in result.output


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    result = _run("report", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "none': must exist; nothing was recorded there" in result.output


def test_an_empty_directory_is_told(tmp_path: Path) -> None:
    result = _run("report", str(tmp_path))
    assert result.exit_code == 1
    assert "holds no durations or runtime series (no CSV file in it)" in result.output


def test_a_directory_of_other_data_is_told_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "sales.2024.csv").write_text("a,b\n1,2\n")
    result = _run("report", str(tmp_path))
    assert result.exit_code == 1
    assert "only sales.*.csv in it" in result.output


def test_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = _run("report", str(tmp_path / "file"))
    assert result.exit_code == 1
    assert "must be a directory, not a file" in result.output


@pytest.mark.parametrize(
    ("command", "module", "extra"), [("report", "pandas", "report"), ("demo", "aiohttp", "demo")]
)
def test_an_extra_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, module: str, extra: str
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == module:
            raise ImportError(f"No module named {module!r}")
        return real(name, *arguments, **keywords)

    for name in [*sys.modules]:
        if name.split(".")[0] == module or name.startswith(
            ("aqltelemetry.loader", "aqltelemetry.csv", "aqltelemetry.demo", "aqltelemetry.report")
        ):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    result = _run(command, *((str(tmp_path),) if command == "report" else ()))
    assert result.exit_code == 1
    assert f"pip install 'aqltelemetry[{extra}]'" in result.output
