"""Starts the demo's service under Gunicorn, sends it requests, and stops it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp

_READY_S = 60
_STOP_S = 30
_CONNECTION_REQUESTS = 25
_CLOSE = {"Connection": "close"}


class DemoError(RuntimeError):
    """Raised when the service does not start, answer or stop as it should."""


class _Request(NamedTuple):
    label: str
    method: str
    path: str
    status: int
    body: object = None


# Sent in this order again and again, so that the total gives the number of each.
_MIX = (
    _Request("/version [GET]", "GET", "/version", 200),
    _Request("/users/{id} [GET]", "GET", "/users/{n}", 200),
    _Request("/version [GET]", "GET", "/version", 200),
    _Request("/notify [POST]", "POST", "/notify", 201, [{"type": "Room"}] * 20),
    _Request("/users/{id} [GET]", "GET", "/users/{n}", 200),
    _Request("/graph/{size} [GET]", "GET", "/graph/500", 200),
    _Request("/version [GET]", "GET", "/version", 200),
    _Request("/users/{id} [GET]", "GET", "/users/{n}", 200),
    _Request("/events [GET]", "GET", "/events", 200),
    _Request("unmatched", "GET", "/no/such/{n}", 404),
)
_BLOCKING = _Request("/invoices/{id} [GET]", "GET", "/invoices/{n}", 200)
_BLOCKING_EVERY, _FIRST_BLOCKING = 120, 20


def run(
    directory: Path,
    *,
    workers: int,
    requests: int,
    connections: int,
    progress: Callable[[int], object] = lambda _: None,
) -> Mapping[str, int]:
    """Run the demo; return how many requests were sent, by label.

    `progress` is called with the number of requests just answered. Raises
    DemoError if the service does not start, answer or stop as it should.
    """
    return asyncio.run(_run(directory.absolute(), workers, requests, connections, progress))


async def _run(
    directory: Path,
    workers: int,
    requests: int,
    connections: int,
    progress: Callable[[int], object],
) -> Mapping[str, int]:
    todo = _todo(requests)
    sent = Counter(request.label for request in todo)
    async with _service(directory, workers) as (server, url):
        driving = asyncio.create_task(_drive(url, workers, todo, connections, progress))
        ended = asyncio.create_task(server.wait())
        await asyncio.wait((driving, ended), return_when=asyncio.FIRST_COMPLETED)
        if not driving.done():
            driving.cancel()
            msg = f"the service ended during the requests, with exit code {ended.result()}"
            raise DemoError(msg)
        ended.cancel()
        sent[_MIX[0].label] += await driving
    return sent


def _todo(requests: int) -> Sequence[_Request]:
    """Return the requests to send: the mix, and now and then one that blocks a worker."""
    todo = list(itertools.islice(itertools.cycle(_MIX), requests))
    for number in range(_FIRST_BLOCKING, requests, _BLOCKING_EVERY):
        todo[number] = _BLOCKING
    return todo


async def _drive(
    url: str,
    workers: int,
    todo: Sequence[_Request],
    connections: int,
    progress: Callable[[int], object],
) -> int:
    """Send the requests; return how many more were sent than those."""
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=_READY_S)
    try:
        async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
            extra = await _reach_all(session, workers)
            numbered = enumerate(todo)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(connections, len(todo))):
                    group.create_task(_send(session, numbered, progress))
    except* (DemoError, aiohttp.ClientError, TimeoutError) as failed:
        first = failed.exceptions[0]
        raise DemoError(str(first) or repr(first)) from None
    return extra


async def _reach_all(session: aiohttp.ClientSession, workers: int) -> int:
    """Send requests until each worker has answered one; return how many.

    The kernel holds the first ones until a worker is there to take them.
    """
    met: set[int] = set()
    sent = 0
    async with asyncio.timeout(_READY_S):
        while len(met) < workers:
            async with session.get("/version", headers=_CLOSE) as response:
                met.add((await response.json())["pid"])
                sent += 1
    return sent


async def _send(
    session: aiohttp.ClientSession,
    todo: Iterator[tuple[int, _Request]],
    progress: Callable[[int], object],
) -> None:
    for number, request in todo:
        path = request.path.format(n=number)
        # A new connection now and then, as clients come and go, may go to another worker.
        headers = _CLOSE if number % _CONNECTION_REQUESTS == 0 else None
        async with session.request(
            request.method, path, json=request.body, headers=headers
        ) as response:
            await response.read()
            if response.status != request.status:
                msg = f"{request.method} {path}: status {response.status}, not {request.status}"
                raise DemoError(msg)
        progress(1)


@asynccontextmanager
async def _service(
    directory: Path, workers: int
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gunicorn", "aqltelemetry.demo.service:create_app"),
            *("--worker-class", "aiohttp.GunicornUVLoopWebWorker", "--workers", str(workers)),
            *("--bind", f"fd://{fd}", "--log-level", "warning", "--graceful-timeout", "10"),
            pass_fds=(fd,),
            env={
                "AQLTELEMETRY_INTERVAL_S": "0.2",
                **os.environ,
                "AQLTELEMETRY_DIR": str(directory),
            },
        )
        try:
            yield server, f"http://127.0.0.1:{listening.getsockname()[1]}"
            await _stop(server)
        finally:
            if server.returncode is None:
                with suppress(ProcessLookupError):
                    server.kill()
                await server.wait()


async def _stop(server: asyncio.subprocess.Process) -> None:
    server.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_S):
            code = await server.wait()
    except TimeoutError:
        msg = f"the service did not stop within {_STOP_S} s"
        raise DemoError(msg) from None
    if code:
        msg = f"the service ended with exit code {code}"
        raise DemoError(msg)
