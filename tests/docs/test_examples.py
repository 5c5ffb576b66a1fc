"""The examples do what the four lines of each one's README say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from pages import ROOT, run
from servers import wait_until

pytestmark = pytest.mark.system
_ROOT = ROOT / "examples"
_EXAMPLES = sorted(path.parent.name for path in _ROOT.glob("*/app.py"))


def _lines(example: str) -> list[str]:
    text = (_ROOT / example / "README.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(block).splitlines()


def test_there_is_one_for_each_framework() -> None:
    assert _EXAMPLES == ["aiohttp", "django", "fastapi", "flask", "starlette"]
    overview = (_ROOT / "README.md").read_text()
    assert set(re.findall(r"\]\(([\w./]+)\)", overview)) == {*_EXAMPLES, "incident", "../README.md"}


@pytest.mark.parametrize("example", _EXAMPLES)
def test_a_service_is_recorded(tmp_path: Path, free_port: Callable[[], int], example: str) -> None:
    shutil.copy(_ROOT / example / "app.py", tmp_path)
    install, serve, ask, report = _lines(example)
    program, verb, ours, *others = shlex.split(install)
    assert (program, verb, ours) == ("pip", "install", "../..[all]")
    for package in others:
        assert version(package)  # it is of these that the tests' environment is made
    port = str(free_port())
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = subprocess.Popen(
        shlex.split(serve.replace("8000", port)), cwd=tmp_path, env=environ, stderr=subprocess.PIPE
    )
    try:
        program, url = shlex.split(ask.replace("8000", port))
        assert program == "curl"
        answers: list[bytes] = []
        wait_until(lambda: _ask(url, answers), "an answer")
    finally:
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=60)
    assert b'"7"' in answers[0]
    assert b"Traceback" not in errors
    printed = run(report, tmp_path)
    for label in ("/users/{user} [GET]", "db query", "dropped: 0 observations"):
        assert label in printed
    assert TelemetryDB(tmp_path / "_monitoring").duration().labels() == [
        "/users/{user} [GET]",
        "/users/{user} [GET] ttfb",
        "db query",
    ]


def _ask(url: str, answers: list[bytes]) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            answers.append(response.read())
    except OSError:
        return False
    return True
