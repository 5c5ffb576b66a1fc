"""A free-threaded Python, as a program sees one: `sys._is_gil_enabled()` is False."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aqltelemetry import Monitor, sync, time_block
from aqltelemetry.errors import FreeThreadingError, TelemetryError
from aqltelemetry.recording import recorder

_WITHOUT_LOCK = "import sys; sys._is_gil_enabled = lambda: False\n"
_SERVED = """
import asyncio, logging
logging.basicConfig(format="%(message)s")
import aqltelemetry
from aqltelemetry.asgi import TelemetryMiddleware
from aqltelemetry.wsgi import TelemetryMiddleware as WsgiMiddleware

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})

def wsgi_app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]

async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}

async def main(app):
    sent = []
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    for _ in range(3):
        await app(scope, receive, send)
    assert [each.get("body") for each in sent[1::2]] == [b"served"] * 3, sent

asyncio.run(main(TelemetryMiddleware(app, "m")))
served = WsgiMiddleware(wsgi_app, "m")
for _ in range(3):
    body = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
    assert list(body) == [b"served"]
    getattr(body, "close", lambda: None)()
with aqltelemetry.time_block("x"):
    aqltelemetry.record("x", 1)
extensions = [name for name in sys.modules if name.startswith("aqltelemetry._")]
assert extensions == [], extensions
"""


def _python(program: str, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", _WITHOUT_LOCK + program]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=100, check=False
    )


async def test_a_start_is_refused_and_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(FreeThreadingError, match="PYTHON_GIL=1"):
        await Monitor(directory).start()
    assert issubclass(FreeThreadingError, TelemetryError)
    assert not recorder.is_on()
    assert not directory.exists()


def test_a_start_without_an_event_loop_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(FreeThreadingError):
        sync.start(directory)
    assert not recorder.is_on()


async def test_with_the_lock_enabled_again_it_records(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    async with Monitor(directory, with_runtime=False) as mine:
        with time_block("x"):
            pass
    assert mine.stats().published == 1


def test_hosts_serve_unrecorded_say_so_and_load_no_extension(tmp_path: Path) -> None:
    done = _python(_SERVED, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this Python runs without the interpreter lock") == 2, done.stderr
    assert list(tmp_path.rglob("*")) == []


def test_the_version_and_doctor_say_so(tmp_path: Path) -> None:
    call = "from aqltelemetry.commands.cli import main; main({arguments!r})"
    shown = _python(call.format(arguments=["--version"]), tmp_path).stdout
    assert "records nothing: free-threaded Python" in shown
    shown = _python(call.format(arguments=["doctor", "."]), tmp_path).stdout
    assert "! hot path     records nothing: free-threaded Python" in shown
