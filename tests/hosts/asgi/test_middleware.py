"""The ASGI middleware around real applications, served by uvicorn on a real socket."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import litestar
import pytest
import uvicorn
from a2wsgi import WSGIMiddleware
from fastapi import APIRouter, FastAPI
from flask import Flask
from litestar import Litestar, get
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

import aqltelemetry.wsgi
from aqltelemetry import Monitor
from aqltelemetry.errors import OptionError
from aqltelemetry.hosts.asgi.middleware import Application, TelemetryMiddleware
from aqltelemetry.hosts.asgi.request_record import Message, Receive, Scope, Send
from aqltelemetry.recording import recorder
from servers import run_gunicorn

Counts = Callable[..., Counter[str]]
Rows = Callable[..., list[dict[str, str]]]


@asynccontextmanager
async def _serving(
    app: Any, lifespan: Any = "auto", ws: Any = "auto"
) -> AsyncIterator[aiohttp.ClientSession]:
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan=lifespan, ws=ws)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session
    finally:
        server.should_exit = True
        await task


def _timed(app: Any, directory: Path, **options: Any) -> TelemetryMiddleware:
    return TelemetryMiddleware(
        app, directory, **{"with_runtime": False, "with_ttfb": False, **options}
    )


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def _get(client: aiohttp.ClientSession, *paths: str) -> list[int]:
    statuses = []
    for path in paths:
        async with client.get(path, allow_redirects=False) as response:
            await response.read()
            statuses.append(response.status)
    return statuses


async def test_starlette_routes_are_templates(
    directory: Path, tmp_path: Path, counts: Counts
) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "a.txt").write_text("a")
    inner = Starlette(routes=[Route("/items/{item}", _hello)])
    app = Starlette(
        routes=[
            Route("/version", _hello, methods=["GET", "POST"]),
            Route("/users/{user:int}", _hello),
            Mount("/api/{tenant}", inner),
            Mount("/static", StaticFiles(directory=tmp_path / "static")),
        ]
    )
    async with _serving(_timed(app, directory)) as client:
        paths = ("/version", "/users/1", "/users/2", "/api/acme/items/7", "/static/a.txt")
        assert await _get(client, *paths) == [200] * 5
        assert await _get(client, "/none", "/api/acme/none", "/static/none") == [404] * 3
        async with client.post("/version") as response:
            assert response.status == 200
    assert counts() == {
        "unmatched": 2,
        "unmatched 4xx": 2,
        "/version [GET]": 1,
        "/version [POST]": 1,
        "/users/{user} [GET]": 2,
        "/api/{tenant}/items/{item} [GET]": 1,
        "/static/{path} [GET]": 2,
        "/static/{path} [GET] 4xx": 1,
    }


async def test_fastapi_routes_are_templates(directory: Path, counts: Counts) -> None:
    app = FastAPI()
    router = APIRouter(prefix="/orders")

    @router.get("/{order}")
    async def order(order: int) -> dict[str, int]:
        return {"order": order}

    @app.get("/sync/{name}")
    def in_a_thread(name: str) -> str:
        return name

    app.include_router(router, prefix="/v1")
    async with _serving(_timed(app, directory)) as client:
        paths = ("/v1/orders/1", "/v1/orders/2", "/sync/x", "/none", "/v1/orders/x")
        assert await _get(client, *paths) == [200, 200, 200, 404, 422]
    assert counts() == {
        "/v1/orders/{order} [GET]": 3,
        "/v1/orders/{order} [GET] 4xx": 1,
        "/sync/{name} [GET]": 1,
        "unmatched": 1,
        "unmatched 4xx": 1,
    }


async def test_litestar_routes_are_templates(directory: Path, counts: Counts) -> None:
    @get("/users/{user:int}")
    async def user(request: litestar.Request[Any, Any, Any]) -> int:
        return int(request.path_params["user"])

    async with _serving(_timed(Litestar([user]), directory)) as client:
        assert await _get(client, "/users/1", "/users/2", "/none") == [200, 200, 404]
    found = counts()
    assert found["/users/{user} [GET]"] == 2
    assert found["unmatched"] == found["unmatched 4xx"] == 1


async def test_the_time_to_the_first_byte_is_recorded_in_addition_to_the_total(
    directory: Path, rows: Rows
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(0.05)
        yield b"second"

    async def stream(request: Request) -> Response:
        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/", stream)])
    async with _serving(_timed(app, directory, with_ttfb=True)) as client:
        assert await _get(client, "/") == [200]
    durations = {row["Label"]: float(row["Measurement"]) for row in rows()}
    assert set(durations) == {"/ [GET]", "/ [GET] ttfb"}
    assert durations["/ [GET]"] >= durations["/ [GET] ttfb"] + 0.05


async def test_a_task_after_the_response_is_not_part_of_the_duration(
    directory: Path, rows: Rows
) -> None:
    done = asyncio.Event()

    async def later() -> None:
        await asyncio.sleep(0.5)
        done.set()

    async def quick(request: Request) -> Response:
        return PlainTextResponse("hello", background=BackgroundTask(later))

    app = Starlette(routes=[Route("/", quick)])
    async with _serving(_timed(app, directory)) as client:
        await _get(client, "/")
        await done.wait()
    (row,) = rows()
    assert float(row["Measurement"]) < 0.5


async def test_files_are_sent_as_without_recording(
    directory: Path, tmp_path: Path, counts: Counts
) -> None:
    (tmp_path / "big").write_bytes(b"x" * 300_000)

    async def send(request: Request) -> Response:
        return FileResponse(tmp_path / "big")

    app = Starlette(routes=[Route("/", send)])
    async with _serving(_timed(app, directory)) as client, client.get("/") as response:
        assert len(await response.read()) == 300_000
    assert counts() == {"/ [GET]": 1}


@pytest.mark.parametrize("has_started", [False, True])
async def test_an_error_of_the_application_passes_through_and_is_counted(
    directory: Path, counts: Counts, has_started: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("a bug of the application")

    async def broken(request: Request) -> Response:
        if has_started:
            return StreamingResponse(chunks())
        raise RuntimeError("a bug of the application")

    app = Starlette(routes=[Route("/", broken)])
    async with _serving(_timed(app, directory)) as client:
        if has_started:
            with pytest.raises(aiohttp.ClientError):
                await _get(client, "/")
        else:
            assert await _get(client, "/") == [500]
    assert counts() == {"/ [GET]": 1, "/ [GET] 5xx": 1}


async def test_a_client_that_goes_away_is_a_disconnect(directory: Path, counts: Counts) -> None:
    ended = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    async def endless(request: Request) -> Response:
        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/", endless)])
    async with _serving(_timed(app, directory)) as client:
        response = await client.get("/")
        await response.content.readany()
        response.close()
        async with asyncio.timeout(30):
            await ended.wait()
    assert counts() == {"/ [GET]": 1, "/ [GET] disconnect": 1}


async def test_websockets_and_event_streams_have_their_own_series(
    directory: Path, counts: Counts
) -> None:
    async def socket(connection: WebSocket) -> None:
        await connection.accept()
        await connection.send_text(await connection.receive_text())
        await connection.close()

    async def events(request: Request) -> Response:
        return Response("data: 1\n\n", media_type="text/event-stream")

    app = Starlette(routes=[WebSocketRoute("/ws/{room}", socket), Route("/events", events)])
    async with _serving(_timed(app, directory, with_ttfb=True)) as client:
        async with client.ws_connect("/ws/7") as connection:
            await connection.send_str("hello")
            assert (await connection.receive_str()) == "hello"
        await _get(client, "/events")
    assert counts() == {
        "/ws/{room} [GET] websocket": 1,
        "/ws/{room} [GET] websocket ttfb": 1,
        "/events [GET] events": 1,
        "/events [GET] events ttfb": 1,
    }


async def _refusals(scope: Scope, receive: Receive, send: Send) -> None:
    """End the handshake of a websocket in the way that the path names."""
    assert scope["type"] == "websocket"
    await receive()
    how = scope["path_template"] = scope["path"]
    if how == "/closed":
        await send({"type": "websocket.close", "code": 1008})
    elif how.startswith("/denied/"):
        status = int(how.removeprefix("/denied/"))
        await send({"type": "websocket.http.response.start", "status": status, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})
    elif how == "/broken":
        raise RuntimeError("a bug of the application")
    elif how == "/gone":
        scope["waiting"].set()
        assert (await receive())["type"] == "websocket.disconnect"
    elif how == "/accepted":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})


@pytest.mark.parametrize("protocol", ["websockets-sansio", "wsproto"])
async def test_a_refused_websocket_is_recorded_by_the_status_that_its_client_received(
    directory: Path, counts: Counts, protocol: Any
) -> None:
    statuses = {
        "/closed": 403,
        "/denied/401": 401,
        "/denied/404": 404,
        "/denied/503": 503,
        "/broken": 500,
        "/nothing": 500,
    }
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["waiting"] = waiting
        await _refusals(scope, receive, send)

    middleware = _timed(app, directory)
    async with _serving(middleware, "off", ws=protocol) as client:
        for path, status in statuses.items():
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(path)
            assert refused.value.status == status
        async with client.ws_connect("/accepted") as connection:
            await connection.receive()
        gone = asyncio.ensure_future(client.ws_connect("/gone"))
        async with asyncio.timeout(30):
            await waiting.wait()
            gone.cancel()
            in_flight = middleware._lifecycle.recording.in_flight
            while [each.value for each in await in_flight.sample()] != [0]:
                await asyncio.sleep(0.01)
    await middleware._lifecycle.stop()
    found = {f"{path} [GET] websocket": 1 for path in (*statuses, "/accepted", "/gone")}
    for path, status in statuses.items():
        found[f"{path} [GET] websocket {status // 100}xx"] = 1
    assert counts() == {**found, "/gone [GET] websocket disconnect": 1}


async def _bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse the lifespan."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("lifespan", ["auto", "off"])
async def test_without_a_lifespan_all_requests_are_recorded(
    directory: Path, counts: Counts, lifespan: str
) -> None:
    """From the first one; and published at the end where the server has a lifespan."""
    middleware = _timed(_bare, directory)
    async with _serving(middleware, lifespan) as client:
        await asyncio.gather(*(_get(client, f"/{number}") for number in range(10)))
    assert recorder.is_on() == (lifespan == "off")
    if lifespan == "off":
        await middleware._lifecycle.stop()
    assert counts() == {"unmatched": 10}


async def test_an_error_of_the_lifespan_is_the_same_as_without_recording(directory: Path) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("no way")

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        pytest.fail("nothing is sent")

    middleware = _timed(failing, directory)
    with pytest.raises(ValueError, match="no way"):
        await middleware({"type": "lifespan"}, receive, send)
    await middleware._lifecycle.stop()


async def test_a_route_that_cannot_be_read_leaves_the_request_unmatched_and_is_logged_once(
    directory: Path, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    async def odd(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update({"fastapi": object()})
        await _bare(scope, receive, send)

    middleware = _timed(odd, directory)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        async with _serving(middleware, "off") as client:
            assert await _get(client, "/1", "/2", "/3") == [200] * 3
    await middleware._lifecycle.stop()
    assert counts() == {"unmatched": 3}
    assert caplog.text.count("no template for a request") == 1


async def test_the_applications_own_lifespan_is_run(directory: Path, counts: Counts) -> None:
    happened: list[tuple[str, bool]] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        happened.append(("startup", recorder.is_on()))
        yield
        happened.append(("shutdown", recorder.is_on()))

    app = Starlette(routes=[Route("/", _hello)], lifespan=lifespan)
    async with _serving(_timed(app, directory), "on") as client:
        await _get(client, "/")
    assert happened == [("startup", True), ("shutdown", True)]
    assert not recorder.is_on()
    assert counts() == {"/ [GET]": 1}


async def test_an_application_may_be_served_again(directory: Path, counts: Counts) -> None:
    middleware = _timed(Starlette(routes=[Route("/", _hello)]), directory)
    for _ in range(2):
        async with _serving(middleware, "on") as client:
            await _get(client, "/")
    assert counts() == {"/ [GET]": 2}


async def test_a_running_monitor_records_the_requests(
    directory: Path, tmp_path: Path, counts: Counts
) -> None:
    app = Starlette(routes=[Route("/", _hello)])
    async with Monitor(directory, with_runtime=False) as outer:
        async with _serving(_timed(app, tmp_path / "other")) as client:
            await _get(client, "/")
        assert outer.is_running
    assert counts() == {"/ [GET]": 1}


async def test_with_an_unusable_directory_the_application_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Starlette(routes=[Route("/", _hello)])
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        async with _serving(TelemetryMiddleware(app, "/proc/monitoring"), "on") as client:
            assert await _get(client, "/") == [200]
    assert caplog.text.count("the application runs unrecorded") == 1


def test_a_wrong_option_is_raised_at_once(directory: Path) -> None:
    with pytest.raises(OptionError, match="interval_s"):
        TelemetryMiddleware(_bare, directory, interval_s=0)


async def test_requests_in_flight_are_sampled(directory: Path, rows: Rows) -> None:
    go_on = asyncio.Event()

    async def slow(request: Request) -> Response:
        await go_on.wait()
        return PlainTextResponse("hello")

    middleware = _timed(Starlette(routes=[Route("/", slow)]), directory, interval_s=0.01)
    async with _serving(middleware) as client:
        tasks = [asyncio.create_task(_get(client, "/")) for _ in range(3)]
        async with asyncio.timeout(30):
            in_flight = middleware._lifecycle.recording.in_flight
            while [each.value for each in await in_flight.sample()] != [3]:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        go_on.set()
        await asyncio.gather(*tasks)
    found = [float(row["Measurement"]) for row in rows("runtime")]
    assert max(found) == 3
    assert found[-1] == 0


async def test_context_variables_pass_through(directory: Path) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        variable.set("inner")
        await _bare(scope, receive, send)

    def outer(inner: Application) -> Application:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            await inner(scope, receive, send)
            seen.append(variable.get())

        return middleware

    timed = _timed(app, directory)
    async with _serving(outer(timed), "off") as client:
        await _get(client, "/")
    await timed._lifecycle.stop()
    assert seen == ["inner"]


async def _called(app: Application, scope: Scope) -> None:
    """Call an application as a server does, without a client."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        pass

    await app({"type": "http", "method": "GET", "headers": [], **scope}, receive, send)


async def test_a_request_to_a_mounted_wsgi_application_is_recorded_once_with_its_route(
    directory: Path, counts: Counts
) -> None:
    inner = Flask("inner")
    inner.add_url_rule("/users/<int:user>", view_func=lambda user: f"{user}")
    inner.wsgi_app = aqltelemetry.wsgi.TelemetryMiddleware(inner.wsgi_app)  # type: ignore[method-assign]
    mounted: Any = WSGIMiddleware(inner)  # type: ignore[arg-type]
    tenants = Mount("/of/{tenant:int}", mounted)
    app = Starlette(routes=[Mount("/old", mounted), tenants, Route("/new", _hello)])
    async with _serving(_timed(app, directory)) as client:
        paths = ("/old/users/1", "/old/users/2", "/old/none", "/of/007/users/1", "/of/7/users/1")
        assert await _get(client, *paths, "/new") == [200, 200, 404, 200, 200, 200]
    assert counts() == {
        "/old/users/{user} [GET]": 2,
        "/of/{tenant}/users/{user} [GET]": 2,
        "/new [GET]": 1,
        "unmatched": 1,
        "unmatched 4xx": 1,
    }


async def test_many_paths_and_methods_make_few_labels(directory: Path, counts: Counts) -> None:
    inner = Starlette(routes=[Route("/items/{item}", _hello)])
    app = Starlette(routes=[Route("/users/{user}", _hello), Mount("/api/{tenant}", inner)])
    app.routes[0].methods = None  # type: ignore[attr-defined]
    middleware = _timed(app, directory)
    for number in range(10_000):
        for path in (f"/x/{number}", f"/api/{number}/x"):
            await _called(middleware, {"path": path})
        await _called(middleware, {"path": f"/users/{number}", "method": f"M{number}"})
    await middleware._lifecycle.stop()
    assert counts() == {
        "unmatched": 20_000,
        "unmatched 4xx": 20_000,
        "/users/{user} [OTHER]": 10_000,
    }


async def test_routes_beyond_the_limit_of_labels_share_one(directory: Path, counts: Counts) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path_template"] = scope["path"]
        await _bare(scope, receive, send)

    middleware = _timed(app, directory)
    for number in range(1_100):
        await _called(middleware, {"path": f"/{number}"})
    await middleware._lifecycle.stop()
    found = counts()
    assert found.pop("other [GET]") == 100
    assert found == {f"/{number} [GET]": 1 for number in range(1_000)}


_DJANGO = """
import asyncio, sys
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.urls import include, path
from starlette.applications import Starlette
from starlette.routing import Mount
from aqltelemetry.asgi import TelemetryMiddleware

async def hello(request, user):
    return HttpResponse(f"hello {user}")

def in_a_thread(request, user, version):
    return HttpResponse(f"hello {user}")

async def missing(request):
    raise Http404

async def broken(request):
    raise RuntimeError("a bug of the application")

async def endless(request):
    async def chunks():
        while True:
            yield b"x"
            await asyncio.sleep(0.001)
    return StreamingHttpResponse(chunks())

urlpatterns = [
    path("users/<str:user>", hello),
    path("gr\u00f6\u00dfe/<int:user>", hello),
    path("api/<slug:version>/", include([path("items/<int:user>/", in_a_thread)])),
    path("missing", missing),
    path("broken", broken),
    path("endless", endless),
]
settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING_CONFIG=None
)
django = get_asgi_application()
app = TelemetryMiddleware(django, "_monitoring")
"""
_CALLS = """
async def call(path, app, root_path=""):
    messages = [{"type": "http.request", "body": b""}]
    begun = asyncio.Event()

    async def receive():
        if messages:
            return messages.pop()
        if path == "/endless":
            await begun.wait()
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.body":
            begun.set()

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    await app({**scope, "root_path": root_path}, receive, send)

async def main():
    for path in ("/users/1", "/users/2", "/gr\u00f6\u00dfe/1", "/api/v2/items/7/", "/api/v2/none",
                 "/none", "/missing", "/broken", "/endless"):
        await call(path, app)
    await call("/root/users/3", app, "/root")
    mounted = TelemetryMiddleware(Starlette(routes=[Mount("/in", django)]))
    await call("/in/users/4", mounted)
    await call("/in/none", mounted)
    await app._lifecycle.stop()

asyncio.run(main())
"""


def test_django_routes_are_templates(tmp_path: Path, directory: Path, counts: Counts) -> None:
    """In its own process, since Django is configured once in a process."""
    program = (_DJANGO + _CALLS).replace("_monitoring", str(directory))
    (tmp_path / "app.py").write_text(program)
    subprocess.run([sys.executable, "app.py"], cwd=tmp_path, check=True, timeout=60)
    found = counts()
    totals = {label: n for label, n in found.items() if not label.endswith(" ttfb")}
    assert totals == {
        "/users/{user} [GET]": 3,
        "/gr\u00f6\u00dfe/{user} [GET]": 1,
        "/api/{version}/items/{user}/ [GET]": 1,
        "/missing [GET]": 1,
        "/missing [GET] 4xx": 1,
        "/broken [GET]": 1,
        "/broken [GET] 5xx": 1,
        "/endless [GET]": 1,
        "/endless [GET] disconnect": 1,
        "/in/users/{user} [GET]": 1,
        "unmatched": 3,
        "unmatched 4xx": 3,
    }
    for label, total in totals.items():
        if not label.endswith((" 4xx", " 5xx", " disconnect")):
            assert found[f"{label} ttfb"] == total


@pytest.mark.system
@pytest.mark.parametrize("worker", ["uvicorn_worker.UvicornWorker", "asgi"])
def test_each_request_to_django_is_one_observation_of_a_worker(
    tmp_path: Path, directory: Path, counts: Counts, worker: str
) -> None:
    (tmp_path / "app.py").write_text(_DJANGO.replace("_monitoring", str(directory)))
    command = ("app:app", "--workers", "2", "--worker-class", worker)
    _, answered = run_gunicorn(command, tmp_path, directory, workers=2)
    assert counts() == {
        "/users/{user} [GET]": answered,
        "/users/{user} [GET] ttfb": answered,
        **dict.fromkeys(("unmatched", "unmatched ttfb", "unmatched 4xx"), 1),
    }
