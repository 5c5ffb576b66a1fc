"""Recording starts below `aqltelemetry run`, whichever `sitecustomize` comes first."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import aqltelemetry
from aqltelemetry.autostart import aqltelemetry_autostart as autostart
from aqltelemetry.commands.launch import environment

_HERE = Path(autostart.__file__).parent
_RECORDS = "from aqltelemetry import time_block\nwith time_block('mine'): pass\n"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the start-up file next to the packages, as installed."""
    path = tmp_path_factory.mktemp("environment")
    venv.create(path, symlinks=True)
    (site,) = path.glob("lib/python*/site-packages")
    (site / "zz_aqltelemetry.pth").write_text((_HERE / "zz_aqltelemetry.pth").read_text())
    paths = (Path(aqltelemetry.__file__).parent.parent, sysconfig.get_path("purelib"))
    (site / "others.pth").write_text("".join(f"{each}\n" for each in paths))
    return path / "bin" / "python"


def _run(
    python: Path, *words: str, cwd: Path, path: str = "", **changes: str
) -> subprocess.CompletedProcess[str]:
    environ = environment(str(cwd / "monitoring"), {}, os.environ)
    environ |= {"PYTHONPATH": f"{path}{os.pathsep}{environ['PYTHONPATH']}"} if path else {}
    return subprocess.run(
        [python, *words],
        env=environ | changes,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
def test_a_module_of_the_same_name_does_not_prevent_recording(
    python: Path, tmp_path: Path, directory: Path, name: str
) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / f"{name}.py").write_text("print('theirs')")
    done = _run(python, "-c", _RECORDS, cwd=tmp_path, path=str(tmp_path / "before"))
    assert done.stderr == ""
    assert (done.stdout == "theirs\n") == (name == "sitecustomize" or bool(done.stdout))
    assert next(directory.glob("duration.*.csv")).read_text().count(",mine,") == 1


def test_another_python_path_does_not_prevent_recording(
    python: Path, tmp_path: Path, directory: Path
) -> None:
    assert _run(python, "-c", _RECORDS, cwd=tmp_path, PYTHONPATH="/nowhere").stderr == ""
    assert next(directory.glob("duration.*.csv")).read_text().count(",mine,") == 1


def test_opentelemetry_instrument_does_not_prevent_recording(
    python: Path, tmp_path: Path, directory: Path
) -> None:
    (tmp_path / "program.py").write_text(_RECORDS)
    program = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
    instrument = ("-c", program)
    _run(python, *instrument, str(python), "program.py", cwd=tmp_path, OTEL_SDK_DISABLED="true")
    assert next(directory.glob("duration.*.csv")).read_text().count(",mine,") == 1


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ((), {"AQLTELEMETRY_AUTOSTART": "/nowhere", "AQLTELEMETRY_RUN": "", "PYTHONPATH": ""}),
        (("-I",), {}),
        (("-E",), {}),
    ],
)
def test_the_start_up_file_does_nothing_outside_a_run(
    python: Path, tmp_path: Path, words: tuple[str, ...], changes: dict[str, str]
) -> None:
    """As after an uninstallation, or if Python ignores the environment."""
    program = "import sys; print('aqltelemetry_autostart' in sys.modules, len(sys.path))"
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("AQLTELEMETRY", "PYTHON"))}
    wanted = subprocess.run(
        [python, *words, "-c", program], env=plain, capture_output=True, text=True, check=True
    )
    done = _run(python, *words, "-c", program, cwd=tmp_path, **changes)
    assert (done.stdout, done.stderr) == (wanted.stdout, "")
    assert done.stdout.startswith("False")
    assert sys.version_info >= (3, 11)
