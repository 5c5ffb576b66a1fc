"""A recording starts and stops with an application on any backend, and raises nothing in it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import aqltelemetry.wsgi
from aqltelemetry import Monitor, sync, time_block
from aqltelemetry.aiohttp import setup
from aqltelemetry.asgi import TelemetryMiddleware
from aqltelemetry.errors import NotRunningError, OptionError
from aqltelemetry.hosts import lifecycle
from aqltelemetry.hosts.asgi.request_record import Message, Scope
from aqltelemetry.recording import recorder
from servers import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of which HTTP client it would rather have
    from starlette.testclient import TestClient

Counts = Callable[..., Counter[str]]
_FAILURES = [
    RuntimeError("can't start new thread"),
    MemoryError(),
    AttributeError("'Loop' object has no attribute 'x'"),
    UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"),
    OSError(24, "Too many open files"),
    ExceptionGroup("two", [ValueError("one"), KeyError("another\nline")]),
    NotRunningError(),
]


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    if recorder.is_on():
        sync.stop()


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello")


def _timed(directory: Path, **options: Any) -> TelemetryMiddleware:
    app = Starlette(routes=[Route("/users/{user}", _hello)])
    return TelemetryMiddleware(
        app, directory, **{"with_runtime": False, "with_ttfb": False, **options}
    )


def test_one_application_is_served_in_turn_on_asyncio_and_trio(
    directory: Path, counts: Counts
) -> None:
    """As tests of applications do: start, stop, and start again on another event loop."""
    app = _timed(directory)
    for number, backend in enumerate(["trio", "asyncio", "asyncio", "trio", "trio", "asyncio"]):
        with TestClient(app, backend=backend) as client:  # type: ignore[arg-type]
            assert recorder.is_on()
            assert client.get(f"/users/{number}").status_code == 200
        assert not recorder.is_on()
        assert counts() == {"/users/{user} [GET]": number + 1}


def test_requests_without_a_lifespan_are_each_on_another_event_loop(
    directory: Path, counts: Counts
) -> None:
    """Each loop ends before the next starts; a later start publishes earlier records."""
    app = _timed(directory)
    client = TestClient(app)
    for number in range(4):
        assert client.get(f"/users/{number}").status_code == 200
    with client:
        client.get("/users/4")

    async def recovered() -> None:
        async with Monitor(directory, with_runtime=False), asyncio.timeout(30):
            while counts()["/users/{user} [GET]"] < 5:
                await asyncio.sleep(0.01)

    asyncio.run(recovered())
    assert counts() == {"/users/{user} [GET]": 5}


def test_requests_without_a_lifespan_are_recorded_on_trio(directory: Path, counts: Counts) -> None:
    """One recording does it, whose thread lives longer than the event loops of the requests."""
    client = TestClient(_timed(directory), backend="trio")
    for number in range(3):
        assert client.get(f"/users/{number}").status_code == 200
    sync.stop()
    assert counts() == {"/users/{user} [GET]": 3}


def test_concurrent_first_requests_on_trio_are_all_recorded(
    directory: Path, counts: Counts
) -> None:
    app = _timed(directory)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(_call, app, f"/users/{number}")

    trio.run(main)
    sync.stop()
    assert counts() == {"/users/{user} [GET]": 20}


def test_a_request_that_trio_cancels_is_a_disconnect(directory: Path, counts: Counts) -> None:
    scope = trio.CancelScope()

    async def forever(request: Request) -> Response:
        scope.cancel()
        await trio.lowlevel.checkpoint()
        return PlainTextResponse("")

    app = TelemetryMiddleware(Starlette(routes=[Route("/", forever)]), directory, with_ttfb=False)
    trio.run(_within, scope, app)
    sync.stop()
    assert counts() == {"/ [GET]": 1, "/ [GET] disconnect": 1}


async def _within(scope: trio.CancelScope, app: Any) -> None:
    with scope:
        await _call(app, "/")


def test_on_an_unknown_backend_a_thread_starts_and_stops_the_recording(
    directory: Path, counts: Counts
) -> None:
    app = _timed(directory)
    _drive(_call(app, "/users/1"))
    wait_until(recorder.is_on, "a recording")
    _drive(_call(app, "/users/2"))
    _drive(app._lifecycle.stop())
    wait_until(lambda: not recorder.is_on() and counts()["/users/{user} [GET]"] > 0, "its end")
    assert counts()["/users/{user} [GET]"] in (1, 2)


def _drive(work: Any) -> None:
    """Run a coroutine that never waits for its backend."""
    with pytest.raises(StopIteration):
        work.send(None)


async def _call(app: Any, path: str) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        pass

    scope: Scope = {"type": "http", "method": "GET", "path": path, "root_path": ""}
    await app({**scope, "headers": [], "query_string": b""}, receive, send)


@pytest.mark.parametrize("failure", _FAILURES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whatever_a_start_raises_an_asgi_application_is_served_unrecorded(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    backend: Any,
) -> None:
    monkeypatch.setattr(Monitor, "open", _raising_async(failure))
    with caplog.at_level(logging.INFO, "aqltelemetry"):
        with TestClient(_timed(directory), backend=backend) as client:
            assert client.get("/users/1").status_code == 200
        client = TestClient(_timed(directory), backend=backend)
        assert client.get("/users/1").status_code == 200
    _check_one_line(caplog, 2)


@pytest.mark.parametrize("failure", _FAILURES, ids=lambda each: type(each).__name__)
def test_whatever_a_start_raises_a_wsgi_application_is_served_unrecorded(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    monkeypatch.setattr(Monitor, "open", _raising_async(failure))

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    timed = aqltelemetry.wsgi.TelemetryMiddleware(app, directory)
    with caplog.at_level(logging.INFO, "aqltelemetry"):
        for _ in range(3):
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
            assert list(timed(environ, lambda *_: lambda data: None)) == [b"hello"]
    _check_one_line(caplog, 1)


@pytest.mark.parametrize("failure", _FAILURES, ids=lambda each: type(each).__name__)
async def test_whatever_a_start_raises_an_aiohttp_application_is_served_unrecorded(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    monkeypatch.setattr(Monitor, "open", _raising_async(failure))
    app = web.Application()
    setup(app, directory)
    runner = web.AppRunner(app)
    with caplog.at_level(logging.INFO, "aqltelemetry"):
        await runner.setup()
        await runner.cleanup()
    _check_one_line(caplog, 1)


def _raising_async(failure: Exception) -> Callable[..., Any]:
    async def start(*arguments: object, **options: object) -> None:
        raise failure

    return start


def _check_one_line(caplog: pytest.LogCaptureFixture, times: int) -> None:
    lines = [record for record in caplog.records if record.name == "aqltelemetry"]
    assert [record.message.count("\n") for record in lines] == [0] * times
    assert all("the application runs unrecorded: " in each.message for each in lines)
    assert all(each.exc_info is None for each in lines)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whatever_a_stop_raises_the_application_ends_normally(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    backend: Any,
) -> None:
    stop = Monitor.stop

    async def stop_and_raise(monitor: Monitor) -> None:
        await stop(monitor)
        raise RuntimeError("no way")

    monkeypatch.setattr(Monitor, "stop", stop_and_raise)
    with (
        caplog.at_level(logging.ERROR, "aqltelemetry"),
        TestClient(_timed(directory), backend=backend) as client,
    ):
        client.get("/users/1")
    (line,) = [each.message for each in caplog.records if each.name == "aqltelemetry"]
    assert line == "the recording could not be stopped: RuntimeError('no way')"


def test_a_log_handler_that_raises_does_not_reach_the_application(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("a full disk")

    handler = Handler()
    monkeypatch.setattr(Monitor, "open", _raising_async(OSError("no")))
    logging.getLogger("aqltelemetry").addHandler(handler)
    try:
        with TestClient(_timed(directory)) as client:
            assert client.get("/users/1").status_code == 200
    finally:
        logging.getLogger("aqltelemetry").removeHandler(handler)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_cancellations_and_exits_pass_through(exception: type[BaseException]) -> None:
    for guard in (lifecycle.log_failed_start, lifecycle.log_failed_stop):
        with pytest.raises(exception), guard():
            raise exception


async def test_a_request_that_is_cancelled_during_the_start_is_cancelled(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the cancellation comes while its recording is being started."""
    begun = asyncio.Event()

    async def start(monitor: Monitor) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Monitor, "start", start)
    request = asyncio.create_task(_call(_timed(directory), "/users/1"))
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_a_start_that_is_cancelled_is_not_a_cancellation_of_the_request(
    directory: Path, monkeypatch: pytest.MonkeyPatch, counts: Counts
) -> None:
    """The start has its own task; the next request starts another one."""
    started = Monitor.start
    monkeypatch.setattr(Monitor, "start", _cancelled)
    app = _timed(directory)
    await _call(app, "/users/1")
    monkeypatch.setattr(Monitor, "start", started)
    app._lifecycle.is_ready = False  # as on another event loop
    await _call(app, "/users/2")
    await app._lifecycle.stop()
    assert counts() == {"/users/{user} [GET]": 1}


async def _cancelled(monitor: Monitor) -> None:
    raise asyncio.CancelledError


def test_a_trio_program_times_its_blocks(directory: Path, counts: Counts) -> None:
    async def work() -> None:
        async with block:
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(work)

    block = time_block("shared")
    sync.start(directory, with_runtime=False)
    trio.run(main)
    sync.stop()
    assert counts() == {"shared": 10}


_LAZY = """
from fastapi import FastAPI
from aqltelemetry.asgi import TelemetryMiddleware
app = FastAPI()
app.add_middleware(TelemetryMiddleware, monitoring_dir="m", keep_byte=1)
"""


@pytest.mark.parametrize(
    "server", [("uvicorn", "--port", "0"), ("hypercorn", "--bind", "127.0.0.1:0")], ids=str
)
def test_a_wrong_option_ends_the_server_before_it_serves(
    tmp_path: Path, server: tuple[str, ...]
) -> None:
    """Also where the framework makes its middleware only in the first call."""
    (tmp_path / "app.py").write_text(_LAZY)
    command = [sys.executable, "-m", *server, "app:app"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0 or server[0] == "hypercorn"  # which ends with 0 all the same
    assert "keep_byte=1: unknown; there are" in done.stdout + done.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "options", [{"keep_byte": 1}, {"interval_s": 0}, {"template": "no such"}], ids=str
)
def test_a_wrong_option_in_a_lazily_made_middleware_fails_the_lifespan(
    backend: Any, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a lifespan, the application is served unrecorded, and that is logged once."""
    app = Starlette(routes=[Route("/users/{user}", _hello)])
    app.add_middleware(TelemetryMiddleware, **options)
    with pytest.raises(OptionError), TestClient(app, backend=backend):
        pass
    client = TestClient(app, backend=backend)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert [client.get(f"/users/{number}").status_code for number in range(3)] == [200] * 3
    _check_one_line(caplog, 1)


def test_a_wrong_option_is_raised_where_the_application_is_wrapped() -> None:
    """Also while an event loop runs, as under a server that imports the application in it."""

    async def main() -> None:
        with pytest.raises(OptionError):
            TelemetryMiddleware(Starlette(), keep_byte=1)  # type: ignore[call-arg]

    asyncio.run(main())


@pytest.mark.parametrize("host", ["asgi", "wsgi", "aiohttp"])
@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/monitoring"])
def test_without_a_usable_directory_the_application_is_served_and_that_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, place: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    directory = {"a file": file, "below a file": file / "x"}.get(place, Path(place))
    with caplog.at_level(logging.INFO, "aqltelemetry"):
        _SERVE[host](directory)
    _check_one_line(caplog, 1)
    assert file.read_bytes() == b""


def _serve_asgi(directory: Path) -> None:
    with TestClient(_timed(directory)) as client:
        assert client.get("/users/1").status_code == 200


def _serve_wsgi(directory: Path) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    timed = aqltelemetry.wsgi.TelemetryMiddleware(app, directory)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    assert list(timed(environ, lambda *_: lambda data: None)) == [b"hello"]


def _serve_aiohttp(directory: Path) -> None:
    async def main() -> None:
        app = web.Application()
        setup(app, directory)
        runner = web.AppRunner(app)
        await runner.setup()
        await runner.cleanup()

    asyncio.run(main())


_SERVE = {"asgi": _serve_asgi, "wsgi": _serve_wsgi, "aiohttp": _serve_aiohttp}
