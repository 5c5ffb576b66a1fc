"""The start-up hook below `aqltelemetry run` changes nothing that a program could notice."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from aqltelemetry.autostart import aqltelemetry_autostart as autostart
from aqltelemetry.commands.launch import environment
from aqltelemetry.hosts import autopatch


def _run(
    program: str, tmp_path: Path, mode: str = "0/server", changes: Mapping[str, str] | None = None
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


def test_each_watched_module_is_of_a_kind_that_can_be_patched() -> None:
    assert {kind for kind, _ in autostart.HOSTS.values()} == set(autopatch.PATCHES)


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
def test_the_name_of_the_program_is_found_behind_the_options(command: str, name: str) -> None:
    assert autostart.program_name(command.split()) == name


def test_a_process_that_serves_nothing_does_not_import_aqltelemetry(tmp_path: Path) -> None:
    """And not asyncio either, which has to come after gevent's patches."""
    program = "import sys; print({'asyncio', 'aqltelemetry'} & {*sys.modules})"
    assert _run(program, tmp_path).stdout == "set()\n"
    assert list(tmp_path.iterdir()) == []


def test_the_sitecustomize_of_the_environment_runs_and_is_imported(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('own')")
    path = environment("", {}, {"PYTHONPATH": str(tmp_path / "own")})["PYTHONPATH"]
    program = "import sitecustomize, sys; print(sitecustomize.__file__, *sys.path, sep='\\n')"
    own, file, *paths = _run(program, tmp_path, changes={"PYTHONPATH": path}).stdout.split()
    assert own == "own"
    assert file == str(tmp_path / "own" / "sitecustomize.py")
    assert str(Path(autostart.__file__).parent) not in paths


def test_a_python_without_aqltelemetry_runs_its_program(tmp_path: Path) -> None:
    (tmp_path / "flask").mkdir()
    (tmp_path / "flask" / "__init__.py").touch()
    (tmp_path / "flask" / "app.py").write_text("class Flask: pass")
    program = """
import sys
sys.modules["aqltelemetry.hosts.autopatch"] = None
import flask.app
print(flask.app.Flask.__module__)
"""
    done = _run(program, tmp_path)
    assert (done.stdout, done.stderr) == ("flask.app\n", "")


def test_an_unknown_version_of_a_host_runs_unrecorded_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "flask").mkdir()
    (tmp_path / "flask" / "__init__.py").touch()
    (tmp_path / "flask" / "app.py").write_text("Flask = None")
    done = _run("import flask.app; print('runs')", tmp_path)
    assert done.stdout == "runs\n"
    assert "is not recorded: AttributeError" in done.stderr


def test_nothing_is_watched_without_the_environment_variable(tmp_path: Path) -> None:
    environ = environment(str(tmp_path), {}, os.environ)
    del environ["AQLTELEMETRY_RUN"]
    program = "import sys; print(type(sys.meta_path[0]).__name__)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "ImportWatch" not in done.stdout


@pytest.mark.parametrize(
    ("mode", "command", "is_program"),
    [
        ("program", "python job.py", True),
        ("program", "python -m gunicorn app:app", False),
        ("program", "python -m aqltelemetry run -- python job.py", False),
        ("7/program", "python helper.py", False),
        ("7/program", "python -c spawn_main --multiprocessing-fork", True),
        ("7/program", "python -c from\u00a0multiprocessing.forkserver", True),
        ("7/server", "python -c spawn_main --multiprocessing-fork", False),
        ("42/server", "python job.py", True),
    ],
)
def test_the_first_process_and_its_multiprocessing_workers_are_programs(
    mode: str, command: str, is_program: bool
) -> None:
    """Also when the first has replaced itself, as `poetry run` does: the PID is the same."""
    assert autostart.is_program(mode, 42, command.split(" ")) == is_program


def test_the_first_process_is_recorded_and_sets_its_kind(tmp_path: Path) -> None:
    program = "import os; print(os.environ['AQLTELEMETRY_RUN'] == f'{os.getpid()}/program')"
    assert _run(program, tmp_path, mode="program").stdout == "True\n"
    assert list((tmp_path / "monitoring").glob("runtime.*.csv"))


def test_finding_the_spec_of_a_module_does_not_patch_it(tmp_path: Path) -> None:
    program = """
import importlib.util
importlib.util.find_spec("starlette.applications")
from starlette.applications import Starlette
print(hasattr(Starlette.__call__, "__wrapped__"))
"""
    assert _run(program, tmp_path).stdout == "True\n"


@pytest.mark.parametrize("slots", ["__slots__ = ()", ""])
def test_any_kind_of_loader_is_left_unchanged(tmp_path: Path, slots: str) -> None:
    program = f"""
import sys
from importlib.machinery import ModuleSpec
class Loader:
    {slots or "pass"}
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        module.Flask = type("Flask", (), {{"__call__": lambda *_: None}})
class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name in ("flask", "flask.app"):
            return ModuleSpec(name, Loader(), is_package=True)
sys.meta_path.insert(1, Finder)
import flask.app
print(type(flask.app.__spec__.loader).__name__, hasattr(flask.app.Flask.__call__, "__wrapped__"))
"""
    done = _run(program, tmp_path)
    assert (done.stdout, done.stderr) == ("Loader True\n", "")


def test_modules_of_the_same_loader_are_patched_once(tmp_path: Path) -> None:
    """As those of a zip file."""
    archive = tmp_path / "packages.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("flask/__init__.py", "")
        file.writestr("flask/app.py", "class Flask:\n    def __call__(self): pass")
        file.writestr("flask/other.py", "")
    program = f"import sys; sys.path.insert(0, {str(archive)!r}); import flask.app, flask.other"
    assert _run(program, tmp_path).stderr == ""


def test_an_older_python_runs_its_program_and_its_own_sitecustomize(tmp_path: Path) -> None:
    """The version is changed for this process."""
    (tmp_path / "sitecustomize.py").write_text("print('own')")
    ours = Path(autostart.__file__).with_name("sitecustomize.py")
    program = f"""
import sys
sys.version_info = (3, 6)
sys.path[:0] = [{str(ours.parent)!r}, {str(tmp_path)!r}]
sys.modules.pop("sitecustomize", None)
import sitecustomize
print(any("autostart" in name for name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "own\nFalse\n"
