"""Two containers on one volume, without an engine: two first processes of PID namespaces."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from aqltelemetry import TelemetryDB
from aqltelemetry.settings import settings
from pages import Page

pytestmark = pytest.mark.system
_PAGE = Page("docs/guides/containers.md")
_PROGRAM = """
import os, sys
from aqltelemetry import sync, time_block
sync.start()
assert os.getpid() == 1
for _ in range(int(sys.argv[1])):
    with time_block("x"):
        pass
open(sys.argv[2] + ".begun", "w").close()
while not os.path.exists(sys.argv[3] + ".begun"):
    pass
if sys.argv[4] == "killed":
    os._exit(9)
sync.stop()
"""


def _services() -> dict[str, dict[str, object]]:
    (text,) = _PAGE.blocks("yaml")
    return dict(yaml.safe_load(text)["services"])


def test_the_variables_are_options_and_the_commands_are_ours() -> None:
    commands = []
    for service in _services().values():
        environ = service["environment"]
        assert isinstance(environ, dict)
        chosen = settings(environ=environ)
        assert (chosen.directory, chosen.keep_bytes) == ("/monitoring", 512 << 20)
        commands.append(shlex.split(str(service["command"])))
        assert service["volumes"] == ["monitoring:/monitoring"]
    gunicorn, run = commands
    assert gunicorn[:3] == ["gunicorn", "--config", "python:aqltelemetry.gunicorn"]
    assert run[:3] == ["aqltelemetry", "run", "--"]


def test_processes_of_equal_pids_share_a_directory(
    tmp_path: Path, directory: Path, namespaces: Callable[..., list[str]]
) -> None:
    """And what one of them left, another publishes, and no other's while that lives."""
    journal = {"AQLTELEMETRY_JOURNAL_DIR": str(tmp_path / "journal")}
    environ = {**os.environ, **journal, "AQLTELEMETRY_DIR": str(directory)}
    names = [str(tmp_path / name) for name in ("one", "other")]
    ends = ("killed", "stopped")
    processes = [
        subprocess.Popen(
            namespaces(sys.executable, "-c", _PROGRAM, str(1000 + n), names[n], names[1 - n], end),
            env=environ,
        )
        for n, end in enumerate(ends)
    ]
    assert [process.wait(60) for process in processes] == [9, 0]
    command = namespaces(sys.executable, "-m", "aqltelemetry", "run", "--", "true")
    subprocess.run(command, env=environ, check=True, capture_output=True)
    data = TelemetryDB(directory).duration().data_by_process()
    by_process = data.astype({"Writer": str}).groupby("Writer")["PID"].agg(["count", "max"])
    assert sorted(by_process["count"]) == [1000, 1001]
    assert by_process["max"].nunique() == 1
