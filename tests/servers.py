"""Real servers, requests to them, and what they left in the journal."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from aqltelemetry import Monitor
from aqltelemetry.journal.inventory import take_inventory
from aqltelemetry.journal.location import all_roots

_FLASK = """
import os
from flask import Flask
app = Flask(__name__)
@app.get("/users/<user>")
def hello(user):
    return f"hello {user}", {"Worker": str(os.getpid())}
"""
_STARLETTE = """
import os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def hello(request):
    return PlainTextResponse(
        f"hello {request.path_params['user']}", headers={"Worker": str(os.getpid())}
    )
app = Starlette(routes=[Route("/users/{user}", hello)])
"""
_AIOHTTP = """
import os
from aiohttp import web
async def hello(request):
    return web.Response(
        text=f"hello {request.match_info['user']}", headers={"Worker": str(os.getpid())}
    )
app = web.Application()
app.router.add_get("/users/{user}", hello)
async def create_app():
    return app
"""
PROGRAMS = {"flask": _FLASK, "starlette": _STARLETTE, "aiohttp": _AIOHTTP}
"""Applications that answer `/users/{user}`, and say in a header by which process."""
WORKERS = {
    "sync": "flask",
    "gthread": "flask",
    "gevent": "flask",
    "aiohttp.GunicornWebWorker": "aiohttp",
    "aiohttp.GunicornUVLoopWebWorker": "aiohttp",
    "uvicorn_worker.UvicornWorker": "starlette",
    "asgi": "starlette",
}
"""Gunicorn's worker classes, and which of these applications they serve."""
_TIMEOUT_S = 60
_PACE_S = 0.008


@contextlib.contextmanager
def gunicorn(
    arguments: tuple[str, ...], cwd: Path, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a server; yield it and its port, and have it stop at the end."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        port = listening.getsockname()[1]
        server = start_gunicorn(arguments, cwd, listening, environ)
    try:
        yield server, port
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(_TIMEOUT_S) == 0


def start_gunicorn(
    arguments: tuple[str, ...],
    cwd: Path,
    listening: socket.socket,
    environ: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server on a socket, which others may serve too."""
    fd = listening.fileno()
    command = (sys.executable, "-m", "gunicorn", *arguments, "--bind", f"fd://{fd}")
    command += ("--log-level", "critical")
    return subprocess.Popen(command, cwd=cwd, pass_fds=(fd,), env=environ)


def run_gunicorn(
    arguments: tuple[str, ...],
    cwd: Path,
    directory: Path,
    *,
    workers: int,
    environ: Mapping[str, str] | None = None,
) -> tuple[int, int]:
    """Serve `/users/{user}` until each worker records and some requests were answered.

    One request more is sent, to a path that there is not. Return the master's
    PID and how many were answered.
    """
    with gunicorn(arguments, cwd, environ) as (server, port):
        answered = _send_until_all_record(f"http://127.0.0.1:{port}", directory, workers)
    return server.pid, answered


def _send_until_all_record(url: str, directory: Path, workers: int) -> int:
    """Send requests until each worker has had some; return how many were answered."""
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/none", timeout=60)
    roots = all_roots(str(directory))
    answered = 0
    deadline = time.monotonic() + 60
    while sum(len(list(root.glob("*"))) for root in roots) < workers or answered < 50:
        assert time.monotonic() < deadline
        with urllib.request.urlopen(f"{url}/users/{answered}", timeout=60) as response:
            assert response.read().decode() == f"hello {answered}"
        answered += 1
    return answered


def children(pid: int) -> set[int]:
    """Return the PIDs of a process's children that are no zombies."""
    return {each.pid for each in psutil.Process(pid).children() if _runs(each)}


def is_alive(pid: int) -> bool:
    """Say whether there is such a process, and it is no zombie."""
    return psutil.pid_exists(pid) and _runs(psutil.Process(pid))


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], wanted: str) -> None:
    """Poll for a condition; fail after a minute."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {_TIMEOUT_S} s: {wanted}"
        time.sleep(0.01)


class Clients:
    """Threads that send requests, each on a connection of its own, and count what they get.

    `answered` are whole responses, by the PID of the process that sent them;
    `failed` are requests without one.
    """

    def __init__(self, port: int, threads: int = 4) -> None:
        self.answered: Counter[int] = Counter()
        self.failed = 0
        self.wrong: list[str] = []
        self._port = port
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._running = threads
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to send, or go on."""
        self._stopped.clear()
        self._threads = [threading.Thread(target=self._work) for _ in range(self._running)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more, and wait for what was sent."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        # Not as fast as can be: workers that boot need a processor too.
        while not self._stopped.wait(_PACE_S):
            self._ask()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/users/7", headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as exc:
            with self._lock:
                self.failed += 1
                if isinstance(exc, TimeoutError):
                    self.wrong.append("no answer")
            return
        finally:
            connection.close()
        with self._lock:
            if body == b"hello 7":
                self.answered[int(response.headers["Worker"])] += 1
            else:
                self.wrong.append(f"{response.status} {body!r}")


async def recover(directory: Path) -> None:
    """Run a monitor until nothing of dead processes is left in the journal."""
    roots = all_roots(str(directory))
    async with Monitor(directory, with_runtime=False) as mine, asyncio.timeout(_TIMEOUT_S):
        while take_inventory(roots).dead:
            await asyncio.sleep(0.01)
        assert mine.stats().dropped == {}
    # Its stop waits for no parent's note of how they ended, unlike a recording that goes on.
    assert not [*(each for root in roots for each in root.glob("*/*"))]
