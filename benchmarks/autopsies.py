"""Whether autopsies name the request that a worker died in: each kind of worker, each death.

    python benchmarks/autopsies.py [KIND]... [--write]

For each kind of worker a service is started. One request after the other ends the worker that
handles it, while other requests go on. The autopsy must appear next to the files, name the route
of that request, and say how the worker ended, as far as a parent process saw it. A worker that goes
on after the request, since its server catches the exception, must have no autopsy. The exit status
is 1 if a cell is wrong.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import socket
from time import gmtime, strftime
from typing import Any, NamedTuple
from urllib.parse import quote

from _document import RELIABILITY, between, put, table
from _machine import describe
from _memory_limit import memory_limit

HERE = Path(__file__).parent
ROUTE = "/die/{how} [GET]"
TIMEOUT_S = 4
"""After which a server ends a worker that does not answer."""
DEATHS: Mapping[str, frozenset[str]] = {
    "SIGKILL": frozenset({"killed"}),
    "out of memory": frozenset({"out of memory"}),
    "SIGSEGV": frozenset({"crashed"}),
    "timeout, GIL held": frozenset({"timeout"}),
    "timeout, Python code": frozenset({"timeout"}),
    "sys.exit": frozenset({"exited"}),
    "os._exit": frozenset({"exited"}),
    "MemoryError": frozenset(),
}
"""Deaths, and which causes are right where a parent process sees them; none if servers go on."""
_UNSEEN = frozenset({"SIGKILL", "out of memory", "SIGSEGV", "os._exit"})
_CAUGHT = frozenset({"sys.exit", "MemoryError"})
_TIMEOUTS = frozenset({"timeout, GIL held", "timeout, Python code"})
_LIMIT_BYTES = 500 << 20
_PATIENCE_S = 60.0
_AT_ONCE = 4
_WORKERS = 2
_CONFIGURATION = """
from aqltelemetry.gunicorn import child_exit, post_worker_init, worker_exit
aqltelemetry_dir = {directory!r}
aqltelemetry_journal_dir = {journal!r}
"""
_GUNICORN = (
    *("gunicorn", "--workers", str(_WORKERS), "--timeout", str(TIMEOUT_S)),
    *("--graceful-timeout", "1", "--no-control-socket", "--bind", "127.0.0.1:{port}"),
)
_UVICORN = (
    *("uvicorn", "_dying_service:asgi", "--port", "{port}", "--workers", str(_WORKERS)),
    *("--timeout-worker-healthcheck", str(TIMEOUT_S)),
)
_PROGRAM = ("_dying_service.py", "{port}")
_RUN = ("-m", "aqltelemetry", "run", "--", sys.executable)


class Kind(NamedTuple):
    """A way to serve.

    Attributes:
        framework: The framework of the application.
        arguments: What Python gets; `{port}` and `{configuration}` are filled in.
        has_sibling: Whether another worker goes on, and publishes the autopsy.
        is_seen: Whether a parent process sees how a worker ends.
        without_timeout: The requests after which no server ends the worker.
    """

    framework: str
    arguments: Sequence[str]
    has_sibling: bool = True
    is_seen: bool = True
    without_timeout: frozenset[str] = frozenset()


def _gunicorn(framework: str, worker: str, application: str, *more: str) -> Kind:
    hooks = ("--config", "{configuration}", "-k", worker, *more)
    return Kind(framework, ("-m", *_GUNICORN, *hooks, f"_dying_service:{application}"))


_PYTHON_CODE = frozenset({"timeout, Python code"})
KINDS: Mapping[str, Kind] = {
    "Gunicorn, sync": _gunicorn("flask", "sync", "wsgi"),
    "Gunicorn, gthread": _gunicorn("flask", "gthread", "wsgi", "--threads", "2")._replace(
        without_timeout=_PYTHON_CODE
    ),
    "Gunicorn, gevent": _gunicorn("flask", "gevent", "wsgi"),
    "Gunicorn, asgi": _gunicorn("starlette", "asgi", "asgi"),
    "Gunicorn, UvicornWorker": _gunicorn("starlette", "uvicorn_worker.UvicornWorker", "asgi"),
    "Gunicorn, GunicornWebWorker": _gunicorn("aiohttp", "aiohttp.GunicornWebWorker", "web"),
    "Gunicorn, GunicornUVLoopWebWorker": _gunicorn(
        "aiohttp", "aiohttp.GunicornUVLoopWebWorker", "web"
    ),
    "`run -- gunicorn`, gthread": Kind(
        "flask",
        (*_RUN, "-m", *_GUNICORN, "-k", "gthread", "--threads", "2", "_dying_service:wsgi"),
        without_timeout=_PYTHON_CODE,
    ),
    "`run -- uvicorn --workers`": Kind(
        "starlette", (*_RUN, "-m", *_UVICORN), without_timeout=_PYTHON_CODE
    ),
    "`run -- python`": Kind("aiohttp", (*_RUN, *_PROGRAM), False, True, _TIMEOUTS),
    "`python`": Kind("aiohttp, recorded", _PROGRAM, False, False, _TIMEOUTS),
}
"""Ways to serve, by name."""


class Outcome(NamedTuple):
    """Whether a cell is right, and its text."""

    is_right: bool
    text: str


class Service:
    """A running service, by its process, its port, and the directory that it records into."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, directory: Path, log: Path
    ) -> None:
        self.process = process
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

    def starts(self) -> int:
        """Return how many workers were started so far, and the end of the service as one more."""
        text = self.log.read_text()
        started = max(text.count("Booting worker"), text.count("Started server process"))
        return started + (self.process.poll() is not None)

    def autopsies(self) -> dict[str, dict[str, Any]]:
        """Return the autopsies in the directory, by their writers."""
        found = {}
        for path in self.directory.glob("autopsy.*.json"):
            with suppress(OSError, ValueError):
                content = json.loads(path.read_text())
                found[content["writer"]] = content
        return found


@contextmanager
def running(kind: Kind, scratch: Path, group: Path | None = None) -> Iterator[Service]:
    """Run a service until the block ends, in a control group if its `cgroup.procs` is given."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    directory, journal, log = scratch / "monitoring", scratch / "journal", scratch / "log.txt"
    configuration = scratch / "configuration.py"
    configuration.write_text(_CONFIGURATION.format(directory=str(directory), journal=str(journal)))
    values = {"port": port, "configuration": configuration}
    command = [sys.executable, *(each.format(**values) for each in kind.arguments)]
    if group is not None:
        enter = 'echo $$ > "$0"; exec "$@"'
        command = ["sh", "-c", enter, str(group), *command]
    environ = {name: text for name, text in os.environ.items() if "AQLTELEMETRY" not in name}
    environ |= {"DYING_SERVICE": kind.framework, "AQLTELEMETRY_DIR": str(directory)}
    environ |= {"AQLTELEMETRY_JOURNAL_DIR": str(journal), "AQLTELEMETRY_FLUSH_INTERVAL_S": "0.5"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=HERE, env=environ, stdout=output, stderr=output, start_new_session=True
        )
    service = Service(process, port, directory, log)
    try:
        workers = _WORKERS if kind.has_sibling else 0
        _wait_for(lambda: service.get("/ok") == 200 and service.starts() >= workers, service)
        yield service
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a service; workers that do not end by themselves are killed with it."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def examine(service: Service, kind: Kind, how: str) -> Outcome:
    """Let a request end its worker, and judge the autopsy."""
    before, starts = set(service.autopsies()), service.starts()
    status = service.get(f"/die/{quote(how)}", timeout_s=_PATIENCE_S)
    # A server that answers may end nevertheless, and one that does not may go on.
    patience_s = 5.0 if status else _PATIENCE_S / 2
    _has_new(service, kind, before, patience_s, lambda: service.starts() > starts)
    if service.starts() == starts and not set(service.autopsies()) - before:
        is_caught = how in _CAUGHT and not 0 < status < 500
        return Outcome(is_caught, f"goes on, {status or 'no response'}")
    if not kind.has_sibling:
        _publish(service, kind)
    if not _has_new(service, kind, before, _PATIENCE_S):
        return Outcome(False, "no autopsy")
    new = [each for name, each in service.autopsies().items() if name not in before]
    # A busy machine may end another worker, by the timeout.
    return max((_judged(each, kind, how) for each in new), key=lambda each: each.is_right)


def _judged(found: Mapping[str, Any], kind: Kind, how: str) -> Outcome:
    routes, cause = [each["route"] for each in found["in_flight"]], found["cause"]
    wanted = DEATHS[how] if kind.is_seen or how not in _UNSEEN else {"unknown"}
    if ROUTE not in routes or cause["kind"] not in wanted:
        return Outcome(False, f"{cause}: {routes}")
    by = [cause["signal"]] if cause["signal"] else []
    by += [] if cause["exit_status"] is None else [f"status {cause['exit_status']}"]
    if how == "out of memory":
        by.append(f"{cause['oom_kills']} killed by the kernel")
    return Outcome(True, f"{cause['kind']} ({', '.join(by)})" if by else cause["kind"])


def _publish(service: Service, kind: Kind) -> None:
    """Wait for the end of a service, and publish what it left, unless its parent does so."""
    service.process.wait(_PATIENCE_S)
    if not kind.is_seen:
        command = [sys.executable, "-m", "aqltelemetry", "recover", str(service.directory)]
        journal = str(service.directory.with_name("journal"))
        environ = {**os.environ, "AQLTELEMETRY_JOURNAL_DIR": journal}
        subprocess.run(command, env=environ, check=True, capture_output=True)


def _has_new(
    service: Service,
    kind: Kind,
    before: set[str],
    seconds: float,
    is_enough: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait for a new autopsy, or until it is enough; return whether there is one."""
    deadline = time.monotonic() + seconds
    while not set(service.autopsies()) - before:
        if time.monotonic() > deadline or is_enough():
            return False
        if kind.has_sibling:  # a recording of WSGI begins with a worker's first request
            service.get("/ok", timeout_s=2)
        time.sleep(0.1)
    return True


def _wait_for(condition: Callable[[], bool], service: Service) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(service.log.read_text())
        time.sleep(0.1)


def cell(kind: Kind, how: str, scratch: Path) -> Outcome:
    """Start a service, let one of its workers end, and return the outcome."""
    if how in kind.without_timeout:
        return Outcome(True, "goes on: no timeout")
    with ExitStack() as stack:
        group = None
        if how == "out of memory":
            try:
                group = stack.enter_context(memory_limit(_LIMIT_BYTES))
            except OSError:
                return Outcome(True, "memory can't be limited here")
        service = stack.enter_context(running(kind, scratch, group))
        return examine(service, kind, how)


def _merged(rows: Sequence[list[str]]) -> Sequence[list[str]]:
    """Return rows, and those of other kinds that the documentation has, in the order of kinds."""
    before = between(RELIABILITY, "autopsies").splitlines()
    known = [line[2:-2].split(" | ") for line in before if line.startswith("| ")]
    by_kind = {row[0]: row for row in (*known, *rows)}
    return [by_kind[name] for name in KINDS if name in by_kind]


def main() -> int:
    """Print the table of all deaths of some kinds of workers; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of: {', '.join(KINDS)}")
    parser.add_argument(
        "--write", action="store_true", help="write the rows into the table of the docs"
    )
    arguments = parser.parse_args()
    rows: list[list[str]] = []
    is_right = True
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(_AT_ONCE) as pool:
        for name in arguments.kinds or KINDS:
            places = [Path(scratch, f"{len(rows)}-{at}") for at in range(len(DEATHS))]
            for place in places:
                place.mkdir()
            kinds = [KINDS[name]] * len(DEATHS)
            outcomes = list(pool.map(cell, kinds, DEATHS, places))
            is_right = is_right and all(each.is_right for each in outcomes)
            texts = [each.text if each.is_right else f"WRONG: {each.text}" for each in outcomes]
            rows.append([name, *texts])
            print(*rows[-1], sep=" | ", flush=True)
    print(table(["worker", *DEATHS], rows))
    if arguments.write and is_right:
        when = f"{'; '.join(describe('gunicorn', 'uvicorn', 'aiohttp', 'gevent'))}"
        when += f"; {strftime('%-d %B %Y', gmtime())}."
        put(RELIABILITY, "autopsies", f"{when}\n\n{table(['worker', *DEATHS], _merged(rows))}")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
