"""The README's commands that install something."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from pages import ROOT, Page, run

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]
_README = Page("README.md")


def _make(line: str, arguments: str) -> str:
    return run([*line.split(), f"ARGS={arguments}"], ROOT, timeout_s=500)


def test_make_demo_reports_and_names_three_commands_to_try_next(tmp_path: Path) -> None:
    assert "make demo" in _README.commands()
    output = _make("make demo", f"--dir {tmp_path}/demo --requests 500")
    for text in ("/users/{id} [GET]", "db query", "lag max", "dropped: 0 observations"):
        assert text in output
    _, _, after = output.partition("dropped: 0 observations")
    next_ones = re.findall(r"^  ((?:\S+/)?aqltelemetry .+)$", after, re.MULTILINE)
    assert len(next_ones) == 3
    assert "FastAPI" not in output


def test_make_test_runs_the_tests_that_are_asked_for() -> None:
    assert "make test" in _README.commands()
    assert " passed" in _make("make test", "tests/test_errors.py")


def test_a_clone_can_be_installed_and_records(tmp_path: Path) -> None:
    """Into a new environment, in which the shortest program then records and is read."""
    (install,) = [line for line in _README.commands() if line.startswith("pip ")]
    assert install == "pip install '.[all]'"
    run([sys.executable, "-m", "venv", str(tmp_path / "env")], tmp_path)
    python = str(tmp_path / "env" / "bin" / "python")
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "build")
    shutil.copytree(ROOT, clone, ignore=ignored)
    run([python, "-m", "pip", "install", "--quiet", ".[all]"], clone, timeout_s=550)
    program = Page("docs/guides/scripts-and-workers.md").programs()["program.py"]
    (tmp_path / "program.py").write_text(program)
    run([python, "-W", "error", "program.py"], tmp_path)
    assert "all of it" in run([python, "-m", "aqltelemetry", "report"], tmp_path)
