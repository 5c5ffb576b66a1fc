from __future__ import annotations

import builtins
import gzip
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.commands import cli
from aqltelemetry.commands.cli import COMMANDS, main
from aqltelemetry.sinks.file_names import FileName, enclosing
from aqltelemetry.system import extensions
from aqltelemetry.system.clock import epoch_ns
from fakes import EPOCH_NS

_ROW = f"Timepoint,Measurement,Label,PID\n{EPOCH_NS},0.5,/version [GET],7\n"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_version_is_the_packages_and_tells_which_twin_is_in_use() -> None:
    result = _run("--version")
    assert (result.exit_code, result.output) == (
        0,
        f"aqltelemetry, version {version('aqltelemetry')} ({extensions.in_use()})\n",
    )


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("report", "-h"), ("demo", "--help")])
def test_help_is_there_for_everything(arguments: tuple[str, ...]) -> None:
    result = _run(*arguments)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_each_command_is_one_entry_of_a_mapping_that_names_its_module() -> None:
    listed = _run("--help").output.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed if line.startswith("  ")] == [*COMMANDS]
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert set(COMMANDS.values()) <= modules


def test_an_unknown_command_is_a_usage_error() -> None:
    result = _run("reports")
    assert result.exit_code == 2
    assert "No such command 'reports'" in result.output


def test_a_command_imports_no_other_command() -> None:
    program = (
        "import sys\nfrom aqltelemetry.commands.cli import main\n"
        "main(['doctor'], standalone_mode=False)\n"
        "print([name for name in ('run', 'report', 'recover', 'demo') "
        "if f'aqltelemetry.commands.{name}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


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
    result = _run("report", str(tmp_path), "--since", "2023-11-14T22:13:21Z")
    assert "/later [GET]" in result.output
    assert "/version [GET]" not in result.output


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("text", ["yesteryear", "", "5", "5x", "2026-13-01"])
def test_what_is_no_time_is_a_usage_error_that_shows_some(
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


def test_an_empty_directory_is_told_with_what_to_wait_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    result = _run("report", str(tmp_path))
    assert result.exit_code == 1
    assert "no files yet; a running service publishes its first about a minute" in result.output


def test_a_time_in_which_nothing_was_recorded_is_told(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    result = _run("report", str(tmp_path), "--since", "2030-01-01")
    assert result.exit_code == 1
    assert "nothing was recorded between --since and --until" in result.output


@pytest.mark.parametrize("text", ["a,b\n1,2\n", f"{_ROW}x,y,z\n", f"{_ROW}1"])
def test_one_foreign_or_damaged_file_costs_itself_alone(tmp_path: Path, text: str) -> None:
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


def test_values_of_ones_own_are_reported(tmp_path: Path) -> None:
    rows = "".join(f"{EPOCH_NS + n},{n}.5,queue length,7\n" for n in range(3))
    (tmp_path / "custom.1.csv").write_text(f"Timepoint,Measurement,Label,PID\n{rows}")
    result = _run("report", str(tmp_path))
    assert result.exit_code == 0
    (line,) = (line for line in result.output.splitlines() if "queue length" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["custom, queue length", "3", "0.5", "1.5", "2.5", "2.5"]


def test_nanoseconds_are_a_time_too(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    assert _run("report", str(tmp_path), "--since", str(EPOCH_NS)).exit_code == 0
    assert _run("report", str(tmp_path), "--until", str(EPOCH_NS)).exit_code == 1


_WITH_DIRECTORY = ("report", "doctor", "off", "on", "verify", "recover")


@pytest.mark.parametrize("command", [name for name in _WITH_DIRECTORY if name != "doctor"])
def test_a_missing_directory_and_a_file_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for given, text in (
        (("none",), "none does not exist: nothing was recorded there\n"),
        (("--dir", "none"), "none does not exist: nothing was recorded there\n"),
        ((), "_monitoring does not exist: nothing was recorded there; give DIR, or set"),
        (("file",), "file is a file, not a directory"),
        (("one", "--dir", "two"), "give the directory once: as DIR or as --dir"),
    ):
        result = _run(command, *given)
        assert result.exit_code == 2
        assert text in result.output


@pytest.mark.parametrize("command", _WITH_DIRECTORY)
def test_every_command_takes_a_directory_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """As an argument, an option, from the environment, or by default."""
    monkeypatch.chdir(tmp_path)
    for name in ("_monitoring", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "duration.1.csv").write_text(_ROW)
    outputs = [_run(command, *given) for given in (("_monitoring",), ("--dir", "_monitoring"), ())]
    monkeypatch.setenv("AQLTELEMETRY_DIR", "other")
    outputs.append(_run(command))
    # The free space may change between two calls.
    texts = {
        re.sub(r"[\d,]+ MiB free", "", result.output.replace("other", "_monitoring"))
        for result in outputs
    }
    codes = {result.exit_code for result in outputs}
    if command in ("on", "off"):
        texts = {text.replace("already ", "") for text in texts}
    assert len(texts) == len(codes) == 1
    assert codes == {0}


def test_help_is_not_cut_and_names_each_directory(tmp_path: Path) -> None:
    _, lines = _run("--help").output.split("Commands:")
    assert "..." not in lines
    for command in (*_WITH_DIRECTORY, "demo"):
        usage = _run(command, "--help").output
        assert f"{command} [OPTIONS] [DIR]" in usage
        assert "--dir DIR" in usage


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
            ("aqltelemetry.reading", "aqltelemetry.demo", "aqltelemetry.views")
        ):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    result = _run(command, *((str(tmp_path),) if command == "report" else ()))
    assert result.exit_code == 1
    assert f"it comes with the extra aqltelemetry[{extra}]" in result.output
