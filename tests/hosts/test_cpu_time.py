"""Each host records the CPU time of requests, if that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aqltelemetry import Monitor, TelemetryDB
from aqltelemetry.hosts.aiohttp import private
from aqltelemetry.hosts.aiohttp.setup import setup
from aqltelemetry.hosts.asgi.middleware import TelemetryMiddleware as AsgiMiddleware
from aqltelemetry.hosts.asgi.request_record import Receive, Scope, Send
from aqltelemetry.hosts.wsgi.middleware import TelemetryMiddleware as WsgiMiddleware
from aqltelemetry.recording import cpu_time
from fakes import FakeClock

_OFF = {"with_runtime": False, "with_ttfb": False}
_SCOPE = {"type": "http", "method": "GET", "path": "/"}


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Return the clock of the thread's CPU time."""
    fake = FakeClock()
    monkeypatch.setattr(cpu_time, "thread_cpu_ns", fake)
    return fake


def _found(directory: Path) -> list[tuple[str, int]]:
    """Return the labels and the nanoseconds of the CPU times, each of which has a duration."""
    db = TelemetryDB(directory)
    times = db.cpu_time().data()
    keys = ["Timepoint", "Label", "PID"]
    assert len(times.merge(db.duration().data(), on=keys)) == len(times)
    nanoseconds = (times["Measurement"] * 1e9).round().astype(int)
    return sorted(zip(times["Label"], nanoseconds.tolist(), strict=True))


async def _request(app: Any, fails: bool = False) -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    await app({**_SCOPE, "fails": fails}, receive, send)


@pytest.mark.parametrize("is_on", [True, False])
async def test_asgi_requests_count_the_steps_of_their_own_task(
    directory: Path, cpu: FakeClock, is_on: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        cpu.now_ns += 10
        await receive()
        cpu.now_ns += 20
        if scope["fails"]:
            raise KeyError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        cpu.now_ns += 1_000  # of a background task

    timed = AsgiMiddleware(app, directory, with_cpu_time=is_on, **_OFF)  # type: ignore[arg-type]

    async def other() -> None:
        for _ in range(10):
            cpu.now_ns += 100_000
            await asyncio.sleep(0)

    async with Monitor(directory, with_runtime=False):
        await asyncio.gather(_request(timed), _request(timed), other())
        with pytest.raises(KeyError):
            await _request(timed, fails=True)
    assert _found(directory) == ([("unmatched", 30)] * 3 if is_on else [])


class _Chunks:
    """A body whose chunks take time, which is closed twice."""

    def __init__(self, cpu: FakeClock) -> None:
        self._cpu = cpu

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(2):
            self._cpu.now_ns += 5
            yield b"x"


def test_wsgi_requests_count_their_thread_until_the_body_is_closed(
    directory: Path, cpu: FakeClock
) -> None:
    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        cpu.now_ns += 10
        if environ["fails"]:
            raise KeyError
        start("200 OK", [])
        return _Chunks(cpu)

    def request(environ: dict[str, Any]) -> None:
        body: Any = timed({"REQUEST_METHOD": "GET", **environ}, lambda *_: None)
        assert [*body] == [b"x", b"x"]
        body.close()

    timed = WsgiMiddleware(app, directory, with_cpu_time=True, **_OFF)  # type: ignore[arg-type]

    async def main() -> None:
        async with Monitor(directory, with_runtime=False):
            await asyncio.to_thread(request, {"fails": False})
            with pytest.raises(KeyError):
                await asyncio.to_thread(request, {"fails": True})

    asyncio.run(main())
    assert _found(directory) == [("unmatched", 10), ("unmatched", 20)]


@pytest.mark.parametrize("is_tested", [True, False])
async def test_aiohttp_requests_count_the_steps_of_their_handler(
    directory: Path, cpu: FakeClock, is_tested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its private parts, and by its documented interface."""
    if not is_tested:
        monkeypatch.setattr(private, "TESTED", ())

    async def plain(_: web.Request) -> web.StreamResponse:
        cpu.now_ns += 10
        await asyncio.sleep(0)
        cpu.now_ns += 20
        return web.Response(text="plain")

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        cpu.now_ns += 7
        await response.write(b"x")
        return response

    async def fail(_: web.Request) -> web.StreamResponse:
        cpu.now_ns += 3
        raise KeyError

    async def other(_: web.Request) -> web.StreamResponse:
        raise web.HTTPForbidden

    app = web.Application()
    handlers = {"/plain": plain, "/stream": stream, "/fail": fail, "/forbidden": other}
    app.add_routes([web.get(path, handler) for path, handler in handlers.items()])
    setup(app, directory, with_cpu_time=True, **_OFF)  # type: ignore[arg-type]
    async with TestClient(TestServer(app)) as client:
        for path in handlers:
            async with client.get(path) as response:
                await response.read()
    expected = {"/plain [GET]": 30, "/stream [GET]": 7, "/fail [GET]": 3, "/forbidden [GET]": 0}
    assert _found(directory) == sorted(expected.items())
