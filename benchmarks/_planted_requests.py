"""Plants stalls in the requests of a Gunicorn worker with threads, for `stalls.py`.

As a module it is the WSGI application of that worker: `/name` blocks the thread of its request, and
`/evidence` returns what was seen of the last stalls.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from _planted_stalls import GROUPS, PLANTS, Group, Others, Plant, starve

from aqltelemetry.sinks import stall_details
from aqltelemetry.stalls import sampler
from aqltelemetry.stalls.evidence import Evidence

NOT_PLANTED = ("small callbacks", "small tasks")
"""Kinds of stalls that only an event loop has."""
THRESHOLD_S = 0.05
_REST_S = 0.05
_WAIT_S = 3.0
_START_S = 30.0
_THREADS = 4

_STARVED = "starved by others"
_PARTS = {"start others": Others.start, "starve": starve, "end others": Others.end}
"""What is planted for the kind above, whose preparation takes longer than the stall."""
_evidence: list[Evidence] = []


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Block the thread as the path says."""
    path = environ["PATH_INFO"][1:]
    body = b"ok"
    if path == "evidence":
        body = json.dumps(_evidence).encode()
    elif path in _PARTS:
        _evidence.clear()
        _PARTS[path]()
    elif path in PLANTS and (path != "throttled" or Group.path is not None):
        _evidence.clear()
        attached = sampler.attached()
        if attached is not None:
            attached.on_evidence = _evidence.append
        found = PLANTS[path].block()
        if asyncio.iscoroutine(found):
            asyncio.run(_awaited(found))
    else:
        body = b"not planted"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def _awaited(work: Any) -> None:
    await work


if __name__ != "__main__" and os.environ.get("PLANTED_WORKER"):
    Group.join()


@contextmanager
def worker(folder: str) -> Iterator[int]:
    """Run Gunicorn with one worker of four threads, which records into `folder`; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1"]
    command += ["--threads", str(_THREADS), "--timeout", "120", "--log-level", "warning"]
    command += ["--bind", f"127.0.0.1:{port}", "-c", "python:aqltelemetry.gunicorn"]
    options = {
        "AQLTELEMETRY_DIR": folder,
        "AQLTELEMETRY_WITH_STALLS": "yes",
        "AQLTELEMETRY_STALLED_REQUEST_S": str(THRESHOLD_S),
        "PYTHONPATH": str(Path(__file__).parent),
        "PLANTED_WORKER": "yes",
    }
    server = subprocess.Popen(
        [*command, "_planted_requests:application"], cwd=folder, env={**os.environ, **options}
    )
    try:
        _wait_for(port)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
        for group in Path(GROUPS).glob("planted-*"):
            with suppress(OSError):
                group.rmdir()


def _wait_for(port: int) -> None:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(_REST_S)


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", f"/{urllib.parse.quote(path)}", headers={"Connection": "close"})
    return connection.getresponse().read()


def planted(
    names: Sequence[str], repetitions: int, folder: str
) -> Iterator[tuple[Plant, Mapping[str, Any] | None, Any]]:
    """Yield each plant with the details of its longest stall, if any, and the evidence of all."""
    with worker(folder) as port:
        for name in names:
            if name in NOT_PLANTED:
                continue
            if name != _STARVED and _get(port, name) == b"not planted":  # the first one calibrates
                continue
            for _ in range(repetitions):
                yield _once(port, folder, PLANTS[name])


def _once(port: int, folder: str, plant: Plant) -> tuple[Plant, Mapping[str, Any] | None, Any]:
    time.sleep(3 * _REST_S)
    before_ns = time.time_ns()
    if plant.name == _STARVED:
        _get(port, "start others")
        time.sleep(0.5)
        before_ns = time.time_ns()
        _get(port, "starve")
        _get(port, "end others")
    else:
        _get(port, plant.name)
    until_s = time.monotonic() + _WAIT_S
    stall = None
    while stall is None and time.monotonic() < until_s:
        time.sleep(_REST_S)
        found = stall_details.read([folder], with_unpublished=True)
        later = [each for each in found if each["begin_ns"] > before_ns]
        stall = max(later, key=lambda each: each["length_s"], default=None)
    return plant, stall, json.loads(_get(port, "evidence"))
