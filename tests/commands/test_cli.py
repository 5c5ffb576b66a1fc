from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.commands import cli
from aqltelemetry.commands.cli import COMMANDS, main
from aqltelemetry.system import extensions
from fakes import EPOCH_NS

_ROW = f"Timepoint,Measurement,Label,PID\n{EPOCH_NS},0.5,/version [GET],7\n"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_version_names_the_extensions_in_use() -> None:
    result = _run("--version")
    assert (result.exit_code, result.output) == (
        0,
        f"aqltelemetry, version {version('aqltelemetry')} ({extensions.in_use()})\n",
    )


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("report", "-h"), ("demo", "--help")])
def test_every_command_has_a_help_text(arguments: tuple[str, ...]) -> None:
    result = _run(*arguments)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_each_command_is_one_entry_of_a_mapping_that_names_its_module() -> None:
    listed = _run("--help").output.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed if line.startswith("  ")] == [*COMMANDS]
    folder = Path(cli.__file__).parent
    paths = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py")]
    modules = {".".join(path.parts) for path in paths}
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


def test_the_command_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aqltelemetry", "--version"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert version("aqltelemetry") in done.stdout


_TWO_DIRECTORIES = dict.fromkeys(
    ("report", "verify"), "one does not exist: nothing was recorded there\n"
)
_WITH_DIRECTORY = ("report", "doctor", "off", "on", "verify", "recover", "compact", "dump")


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
        (("one", "--dir", "two"), _TWO_DIRECTORIES.get(command, "give the directory once")),
    ):
        result = _run(command, *given)
        assert result.exit_code == 2
        assert text in result.output


@pytest.mark.parametrize("command", [name for name in _WITH_DIRECTORY if name != "dump"])
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


def test_help_is_complete_and_names_the_directory(tmp_path: Path) -> None:
    _, lines = _run("--help").output.split("Commands:")
    assert "..." not in lines
    for command in (*_WITH_DIRECTORY, "demo"):
        usage = _run(command, "--help").output
        assert f"{command} [OPTIONS] [DIR]" in usage
        assert "--dir DIR" in usage


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [("report", "pandas", "report"), ("compact", "pandas", "pyarrow"), ("demo", "aiohttp", "demo")],
)
def test_an_extra_that_is_not_installed_is_named(
    tmp_path: Path, command: str, module: str, extra: str
) -> None:
    program = f"""
import sys
sys.modules[{module!r}] = None  # an import of it fails then
from aqltelemetry.commands.cli import main
main()
"""
    arguments = () if command == "demo" else (str(tmp_path),)
    done = subprocess.run(
        [sys.executable, "-c", program, command, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"it comes with the extra aqltelemetry[{extra}]" in done.stderr


def test_shipping_and_proving_csv_files_needs_no_numpy() -> None:
    program = """
import sys
for name in ("numpy", "pandas", "pyarrow"):
    sys.modules[name] = None  # an import of it fails then
import aqltelemetry.commands.shipping.ship, aqltelemetry.commands.verify
import aqltelemetry.shipping.destinations.postgresql
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
