"""What recording every request costs an aiohttp service, beside its peers.

Each contender is a service of its own on uvloop, in a process of its own, alive all
the time; they take turns in rounds, each under the same requests on the same number
of connections. A figure is the median over the rounds of its ratio to the bare
service in the same round: of processor time per request, of all threads of the
process, which other load on the machine disturbs least, and of requests per second.
The peers are middlewares as their documents show them, and in their cheapest form: a
histogram by method, route and status; a span that ends in memory.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter_ns
from typing import cast

import uvloop
from _machine import describe
from aiohttp import web

CONNECTIONS = 16
REQUESTS = 4_000
ROUNDS = 15
_REQUEST = b"GET /users/42 HTTP/1.1\r\nHost: x\r\n\r\n"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def user(request: web.Request) -> web.Response:
    return web.Response(text=f"hello {request.match_info['user']}\n")


def bare() -> web.Application:
    app = web.Application()
    app.router.add_get("/users/{user}", user)
    return app


def recorded() -> web.Application:
    from aqltelemetry.aiohttp import setup  # noqa: PLC0415 - so that others pay nothing for it

    app = bare()
    setup(app)
    return app


def recorded_without_ttfb() -> web.Application:
    from aqltelemetry.aiohttp import setup  # noqa: PLC0415 - as above

    app = bare()
    setup(app, with_ttfb=False)
    return app


def with_middleware() -> web.Application:
    @web.middleware
    async def nothing(request: web.Request, handler: _Handler) -> web.StreamResponse:
        return await handler(request)

    app = bare()
    app.middlewares.append(nothing)
    return app


def with_histogram() -> web.Application:
    from prometheus_client import Histogram  # noqa: PLC0415 - as above

    histogram = Histogram("request_seconds", "of a request", ["method", "route", "status"])

    @web.middleware
    async def timed(request: web.Request, handler: _Handler) -> web.StreamResponse:
        started_ns = perf_counter_ns()
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "unmatched"
        series = histogram.labels(request.method, route, response.status)
        series.observe((perf_counter_ns() - started_ns) / 1e9)
        return response

    app = bare()
    app.middlewares.append(timed)
    return app


def with_span() -> web.Application:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer(__name__)

    @web.middleware
    async def traced(request: web.Request, handler: _Handler) -> web.StreamResponse:
        with tracer.start_as_current_span(request.method) as span:
            response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            return response

    app = bare()
    app.middlewares.append(traced)
    return app


CONTENDERS: dict[str, Callable[[], web.Application]] = {
    "bare": bare,
    "aqltelemetry": recorded,
    "aqltelemetry, with_ttfb=False": recorded_without_ttfb,
    "an empty middleware": with_middleware,
    "a middleware with HISTOGRAM.labels(...)": with_histogram,
    "a middleware with start_as_current_span(...)": with_span,
}


def serve(name: str, fd: int) -> None:
    """Serve a contender until SIGTERM."""
    uvloop.install()
    listening = socket.socket(fileno=fd)
    web.run_app(CONTENDERS[name](), sock=listening, access_log=None, print=lambda _: None)


class _Connection(asyncio.Protocol):
    """Sends one request after the other, as soon as one is answered."""

    def __init__(self) -> None:
        self._left = 0
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 200 "), data
        self._left -= 1
        if self._left:
            self._transport.write(_REQUEST)
        elif self._done is not None:
            self._done.set_result(None)

    async def send(self, requests: int) -> None:
        self._left = requests
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(_REQUEST)
        await self._done


class _Service:
    """A contender in a process of its own."""

    def __init__(self, name: str, directory: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            fd = listening.fileno()
            self._port = listening.getsockname()[1]
            self._process = subprocess.Popen(
                (sys.executable, __file__, name, str(fd)),
                pass_fds=(fd,),
                env={**os.environ, "AQLTELEMETRY_DIR": str(Path(directory) / name)},
            )
        self._connections: list[_Connection] = []

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            made = await loop.create_connection(_Connection, "127.0.0.1", self._port)
            self._connections.append(made[1])

    def cpu_ns(self) -> int:
        """Return the processor time of all threads."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in threads)

    async def measure(self, requests: int) -> tuple[float, float]:
        """Return nanoseconds of processor and of wall time per request."""
        cpu_ns, started_ns = self.cpu_ns(), perf_counter_ns()
        each = requests // CONNECTIONS
        await asyncio.gather(*(connection.send(each) for connection in self._connections))
        wall_ns = perf_counter_ns() - started_ns
        return (self.cpu_ns() - cpu_ns) / requests, wall_ns / requests

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0


async def measure() -> dict[str, list[tuple[float, float]]]:
    """Return processor and wall time per request, of each round, by contender."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as directory:
        services = {name: _Service(name, directory) for name in CONTENDERS}
        try:
            for service in services.values():
                await service.connect()
                await service.measure(REQUESTS)
            for _ in range(ROUNDS):
                for name in random.sample(list(services), len(services)):
                    taken[name].append(await services[name].measure(REQUESTS))
        finally:
            for service in services.values():
                service.stop()
    return taken


def main() -> None:
    """Print one table."""
    describe("aiohttp", "uvloop", "prometheus-client", "opentelemetry-sdk")
    taken = uvloop.run(measure())
    print(f"{'':46}{'us CPU':>8}{'CPU, x bare':>13}{'requests/s, x bare':>20}")
    for name, rounds in taken.items():
        pairs = list(zip(rounds, taken["bare"], strict=True))
        cpu_us = statistics.median(each[0] for each in rounds) / 1e3
        cpu = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
        speed = statistics.median(theirs[1] / ours[1] for ours, theirs in pairs)
        print(f"{name:46}{cpu_us:8.1f}{cpu:13.3f}{speed:20.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1], int(sys.argv[2]))
    else:
        main()
