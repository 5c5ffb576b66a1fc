"""Whether autopsies name the request that a worker died in: each kind of worker, each death.

For each kind of Gunicorn's workers a service of two workers is started. One request after the other
ends the worker that handles it, while other requests go on. The autopsy must appear next to the
files, name the route of that request, and say how the worker ended. A worker that goes on after the
request, since its server catches the exception, must have no autopsy.

`python benchmarks/autopsies.py [KIND]...`; the exit status is 1 if a cell is wrong.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

HERE = Path(__file__).parent
ROUTE = "/die/{how} [GET]"
WORKERS = {
    "sync": ("flask", "sync", "wsgi"),
    "gthread": ("flask", "gthread", "wsgi"),
    "gevent": ("flask", "gevent", "wsgi"),
    "Gunicorn's asgi": ("starlette", "asgi", "asgi"),
    "uvicorn": ("starlette", "uvicorn_worker.UvicornWorker", "asgi"),
    "aiohttp": ("aiohttp", "aiohttp.GunicornWebWorker", "web"),
}
"""Kinds of workers: the framework, Gunicorn's name of the class, the application."""
EXPECTED = {
    "SIGKILL": {"killed", "out of memory"},
    "SIGSEGV": {"crashed"},
    "timeout, GIL held": {"timeout"},
    "timeout, Python code": {"timeout"},
    "sys.exit": {"exited"},
    "os._exit": {"exited"},
    "MemoryError": set[str](),
}
"""Deaths, and which causes are right."""
TIMEOUT_S = 4
_PATIENCE_S = 60.0
_CONFIGURATION = """
from aqltelemetry.gunicorn import child_exit, post_worker_init, worker_exit
workers = 2
threads = {threads}
timeout = {timeout}
graceful_timeout = 1
bind = "127.0.0.1:{port}"
control_socket_disable = True
aqltelemetry_dir = {directory!r}
aqltelemetry_journal_dir = {journal!r}
"""


class Outcome(NamedTuple):
    """The result of a request, and the state of its worker."""

    is_right: bool
    text: str


class Service:
    """A running service, by its port and the directory that it records into."""

    def __init__(self, port: int, directory: Path, log: Path) -> None:
        self.port = port
        self.directory = directory
        self.log = log

    def get(self, path: str, timeout_s: float = 30.0) -> int:
        """Return the status of a request; 0 if the connection ends without a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def booted(self) -> int:
        """Return how many workers were started so far."""
        return self.log.read_text().count("Booting worker")

    def autopsies(self) -> dict[str, dict[str, Any]]:
        """Return the autopsies in the directory, by their writers."""
        found = {}
        for path in self.directory.glob("autopsy.*.json"):
            with suppress(OSError, ValueError):
                content = json.loads(path.read_text())
                found[content["writer"]] = content
        return found


@contextmanager
def running(kind: str, scratch: Path, threads: int = 1) -> Iterator[Service]:
    """Run a service with a kind of workers, until the block ends."""
    framework, worker_class, application = WORKERS[kind]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    directory, log = scratch / "monitoring", scratch / "log.txt"
    configuration = scratch / "configuration.py"
    values = {"port": port, "directory": str(directory), "journal": str(scratch / "journal")}
    configuration.write_text(_CONFIGURATION.format(timeout=TIMEOUT_S, threads=threads, **values))
    command = [sys.executable, "-m", "gunicorn", "-c", str(configuration), "-k", worker_class]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, f"_dying_service:{application}"],
            cwd=HERE,
            env={**os.environ, "DYING_SERVICE": framework},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    service = Service(port, directory, log)
    try:
        _wait_for(lambda: service.get("/ok") == 200, service)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def examine(service: Service, how: str) -> Outcome:
    """Let a request end its worker, and judge the autopsy."""
    before = set(service.autopsies())
    booted = service.booted()
    status = service.get(f"/die/{quote(how)}", timeout_s=_PATIENCE_S)
    # A server that answers may end nevertheless, and one that does not may go on.
    if not _has_new(service, before, seconds=8) and service.booted() == booted:
        return Outcome(not 0 < status < 500, f"goes on, {status or 'no response'}")
    if not _has_new(service, before, seconds=_PATIENCE_S):
        return Outcome(False, "no autopsy")
    (found,) = (each for name, each in service.autopsies().items() if name not in before)
    routes, cause = [each["route"] for each in found["in_flight"]], found["cause"]
    is_right = ROUTE in routes and cause["kind"] in EXPECTED[how]
    by = cause["signal"] or f"status {cause['exit_status']}"
    return Outcome(is_right, f"{cause['kind']} ({by})" if is_right else f"{cause}: {routes}")


def _has_new(service: Service, before: set[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not set(service.autopsies()) - before:
        if time.monotonic() > deadline:
            return False
        service.get("/ok", timeout_s=2)  # a recording of WSGI begins with a worker's first request
        time.sleep(0.1)
    return True


def _wait_for(condition: Any, service: Service) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(service.log.read_text())
        time.sleep(0.1)


def main(kinds: list[str]) -> int:
    """Print the table of all deaths of some kinds of workers; return the exit status."""
    print("| worker |", " | ".join(EXPECTED), "|", flush=True)
    print("|---|", "---|" * len(EXPECTED), sep="", flush=True)
    is_right = True
    for kind in kinds or WORKERS:
        cells = []
        with tempfile.TemporaryDirectory() as scratch:
            for how in EXPECTED:
                if kind == "gthread" and how == "timeout, Python code":
                    cells.append("goes on: no timeout")
                    continue
                place = Path(scratch) / str(len(cells))
                place.mkdir()
                with running(kind, place) as service:
                    outcome = examine(service, how)
                is_right = is_right and outcome.is_right
                cells.append(outcome.text if outcome.is_right else f"WRONG: {outcome.text}")
        print("|", kind, "|", " | ".join(cells), "|", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
