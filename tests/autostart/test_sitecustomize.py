"""What Python runs at its start below us: nothing that the program could notice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aqltelemetry import instrument
from aqltelemetry.autostart import sitecustomize
from aqltelemetry.launch import environment


def _run(
    program: str, tmp_path: Path, mode: str = "hosts", changes: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environ = environment(str(tmp_path / "monitoring"), {}, os.environ)
    environ |= {"AQLTELEMETRY_RUN": mode, **(changes or {})}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_what_is_watched_is_what_can_be_instrumented() -> None:
    assert set(instrument.HOSTS) == sitecustomize.HOSTS


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python script.py --port 1", "script.py"),
        ("python /venv/bin/gunicorn app:app", "gunicorn"),
        ("python -m uvicorn app:app", "uvicorn"),
        ("python -B -W error -X dev -m gunicorn.app.wsgiapp app:app", "gunicorn"),
        ("python -c pass", "-c"),
        ("python -m", ""),
        ("python", ""),
    ],
)
def test_the_program_is_found_among_the_options(command: str, name: str) -> None:
    assert sitecustomize.program_name(command.split()) == name


def test_a_process_that_serves_nothing_imports_nothing_of_ours(tmp_path: Path) -> None:
    """And not asyncio either, which has to come after gevent's patches."""
    program = "import sys; print({'asyncio', 'aqltelemetry'} & {*sys.modules})"
    assert _run(program, tmp_path).stdout == "set()\n"
    assert list(tmp_path.iterdir()) == []


def test_the_environments_own_is_run_and_is_what_the_program_sees(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('own')")
    path = environment("", {}, {"PYTHONPATH": str(tmp_path / "own")})["PYTHONPATH"]
    program = "import sitecustomize, sys; print(sitecustomize.__file__, *sys.path, sep='\\n')"
    own, file, *paths = _run(program, tmp_path, changes={"PYTHONPATH": path}).stdout.split()
    assert own == "own"
    assert file == str(tmp_path / "own" / "sitecustomize.py")
    assert str(Path(sitecustomize.__file__).parent) not in paths


def test_a_python_without_us_runs_as_ever(tmp_path: Path) -> None:
    (tmp_path / "flask").mkdir()
    (tmp_path / "flask" / "__init__.py").touch()
    (tmp_path / "flask" / "app.py").write_text("class Flask: pass")
    program = """
import sys
sys.modules["aqltelemetry.instrument"] = None
import flask.app
print(flask.app.Flask.__module__)
"""
    done = _run(program, tmp_path)
    assert (done.stdout, done.stderr) == ("flask.app\n", "")


def test_a_host_that_is_not_as_it_was_runs_unrecorded_and_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "flask").mkdir()
    (tmp_path / "flask" / "__init__.py").touch()
    (tmp_path / "flask" / "app.py").write_text("Flask = None")
    done = _run("import flask.app; print('runs')", tmp_path)
    assert done.stdout == "runs\n"
    assert "is not recorded: AttributeError" in done.stderr


def test_without_our_variable_nothing_is_watched(tmp_path: Path) -> None:
    environ = environment(str(tmp_path), {}, os.environ)
    del environ["AQLTELEMETRY_RUN"]
    program = "import sys; print(type(sys.meta_path[0]).__name__)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "ImportWatch" not in done.stdout


def test_only_the_first_process_is_recorded_as_a_program(tmp_path: Path) -> None:
    program = "import os; print(os.environ['AQLTELEMETRY_RUN'])"
    assert _run(program, tmp_path, mode="program").stdout == "hosts\n"
    assert list((tmp_path / "monitoring").glob("runtime.*.csv"))
