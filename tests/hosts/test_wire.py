"""A client receives the same bytes from a recorded application as from an unrecorded one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from aqltelemetry import asgi
from aqltelemetry.aiohttp import setup
from aqltelemetry.recording import recorder

_CLOSE = "Connection: close\r\n"
_FILE = web.AppKey("file", Path)


def _request(
    path: str, method: str = "GET", headers: str = _CLOSE, version: str = "1.1", body: str = ""
) -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: x\r\n{headers}\r\n{body}".encode()


def _requests(paths: tuple[str, ...]) -> Mapping[str, bytes]:
    upload = f"{_CLOSE}Content-Length: 5\r\n"
    return {
        **{f"{method} {path}": _request(path, method) for path in paths for method in _METHODS},
        **{f"HTTP/1.0 {path}": _request(path, headers="", version="1.0") for path in paths},
        "a range": _request("/file", headers=f"{_CLOSE}Range: bytes=2-5\r\n"),
        "compressed": _request("/large", headers=f"{_CLOSE}Accept-Encoding: gzip\r\n"),
        "kept alive": b"".join(_request(path, headers="") for path in ("/text", "/empty"))
        + _request("/stream"),
        "pipelined errors": _request("/text", headers="")
        + _request("/nowhere", headers="")
        + _request("/text"),
        "a body": _request("/body", "POST", upload, body="12345"),
        "a body that is not read": _request(
            "/unread", "POST", "Content-Length: 5\r\n", body="12345"
        )
        + _request("/text"),
        "expected": _request("/body", "POST", f"{upload}Expect: 100-continue\r\n", body="12345"),
        "no HTTP": b"GET \x00\r\n\r\n",
    }


_METHODS = ("GET", "HEAD")
_AIOHTTP = (
    *("/text", "/failing", "/found", "/not-acceptable", "/empty", "/stream", "/cut", "/file"),
    *("/large", "/cookie", "/closing", "/chunked", "/none", "/sub/items/5", "/nowhere"),
)
_ASGI = (
    *("/text", "/failing", "/empty", "/stream", "/cut", "/file", "/large", "/background"),
    *("/iterator", "/nothing", "/twice", "/early", "/unknown", "/sub/items/5", "/nowhere"),
)


async def _answer(address: tuple[str, int], request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    # The order of the methods that a route allows is that of a set.
    answer = re.sub(rb"(?i)allow: [^\r]*", b"allow: A", answer)
    return re.sub(rb"(?i)date: [^\r]*", b"date: D", answer)


async def _answers(address: tuple[str, int], requests: Mapping[str, bytes]) -> Mapping[str, bytes]:
    answers = await asyncio.gather(*(_answer(address, each) for each in requests.values()))
    return dict(zip(requests, answers, strict=True))


def _see_that_they_differ(bare: Mapping[str, bytes]) -> None:
    """Check that the requests have the expected responses."""
    assert bare["GET /text"].endswith(b"hello")
    assert bare["GET /file"].endswith(b"0123456789")
    assert bare["a range"].endswith(b"2345")
    assert bare["a body"].endswith(b"12345")
    assert b" 500 " in bare["GET /failing"]
    assert b" 404 " in bare["GET /nowhere"]
    assert b"abc" in bare["GET /cut"]
    assert len(bare["compressed"]) < 1000
    assert bare["pipelined errors"].count(b"HTTP/1.1 ") == 3


def _file(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_text("0123456789" * 100)
    return path


async def _aiohttp_text(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def _aiohttp_failing(_request: web.Request) -> web.Response:
    raise ValueError("failed")


async def _aiohttp_found(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/text")


async def _aiohttp_not_acceptable(_request: web.Request) -> web.Response:
    raise web.HTTPNotAcceptable(text="no")


async def _aiohttp_empty(_request: web.Request) -> web.Response:
    return web.Response(status=204)


async def _aiohttp_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(3):
        await response.write(b"abc")
    return response


async def _aiohttp_cut(request: web.Request) -> web.StreamResponse:
    await (await _aiohttp_stream(request)).write(b"d")
    raise ValueError("failed")


async def _aiohttp_sent_file(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(request.config_dict[_FILE])


async def _aiohttp_large(_request: web.Request) -> web.Response:
    response = web.Response(text="hello" * 1000)
    response.enable_compression()
    return response


async def _aiohttp_cookie(_request: web.Request) -> web.Response:
    response = web.Response(text="c")
    response.set_cookie("a", "b")
    return response


async def _aiohttp_closing(_request: web.Request) -> web.Response:
    response = web.Response(text="c")
    response.force_close()
    return response


async def _aiohttp_chunked(_request: web.Request) -> web.Response:
    response = web.Response(text="hello" * 10)
    response.enable_chunked_encoding()
    return response


async def _aiohttp_none(_request: web.Request) -> Any:
    return None


async def _aiohttp_body(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


@web.middleware
async def _aiohttp_mark(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as exc:
        exc.headers["X-CounterValue"] = "raised"
        raise
    if isinstance(response, web.Response):
        response.headers["X-CounterValue"] = "returned"
    return response


async def _aiohttp_prepare(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Prepared"] = "1"


def _aiohttp_app(file: Path) -> web.Application:
    app = web.Application(middlewares=[_aiohttp_mark])
    app[_FILE] = file
    app.on_response_prepare.append(_aiohttp_prepare)
    handlers = {
        "text": _aiohttp_text,
        "failing": _aiohttp_failing,
        "found": _aiohttp_found,
        "not-acceptable": _aiohttp_not_acceptable,
        "empty": _aiohttp_empty,
        "stream": _aiohttp_stream,
        "cut": _aiohttp_cut,
        "file": _aiohttp_sent_file,
        "large": _aiohttp_large,
        "cookie": _aiohttp_cookie,
        "closing": _aiohttp_closing,
        "chunked": _aiohttp_chunked,
        "none": _aiohttp_none,
    }
    app.add_routes([web.get(f"/{path}", handler) for path, handler in handlers.items()])
    app.add_routes([web.post("/body", _aiohttp_body), web.post("/unread", _aiohttp_text)])
    below = web.Application()
    below.add_routes([web.get("/items/{item}", _aiohttp_text)])
    app.add_subapp("/sub", below)
    return app


async def _asgi_text(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def _asgi_failing(_request: Request) -> Response:
    raise ValueError("failed")


async def _asgi_empty(_request: Request) -> Response:
    return Response(status_code=204)


async def _asgi_stream(_request: Request) -> Response:
    return StreamingResponse(_chunks(3))


async def _asgi_cut(_request: Request) -> Response:
    return StreamingResponse(_chunks(1, then=ValueError("failed")))


async def _asgi_sent_file(request: Request) -> Response:
    return FileResponse(request.app.state.file)


async def _asgi_background(_request: Request) -> Response:
    return PlainTextResponse("hello", background=BackgroundTask(asyncio.sleep, 0))


async def _asgi_body(request: Request) -> Response:
    return Response(await request.body())


def _asgi_app(file: Path) -> Any:
    handlers = {
        "text": _asgi_text,
        "failing": _asgi_failing,
        "empty": _asgi_empty,
        "stream": _asgi_stream,
        "cut": _asgi_cut,
        "file": _asgi_sent_file,
        "background": _asgi_background,
    }
    routes = [
        *(Route(f"/{path}", handler) for path, handler in handlers.items()),
        *(Route(f"/{path}", Messages(*messages)) for path, messages in _MESSAGES.items()),
        Route("/large", GZipMiddleware(PlainTextResponse("hello" * 1000))),
        Route("/body", _asgi_body, methods=["POST"]),
        Route("/unread", _asgi_text, methods=["POST"]),
        Mount("/sub", routes=[Route("/items/{item}", _asgi_text)]),
    ]
    app = Starlette(routes=routes)
    app.state.file = file
    return app


async def _chunks(number: int, then: Exception | None = None) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield b"abc"
    if then is not None:
        raise then


_HEADERS = ((b"content-length", b"1"),)
_HEAD = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
_BODY = {"type": "http.response.body", "body": b"x"}
_MESSAGES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "iterator": ({**_HEAD, "headers": "iterator"}, _BODY),
    "nothing": (),
    "twice": (_HEAD, _BODY, _HEAD, _BODY),
    "early": (_BODY,),
    "unknown": ({"type": "http.unknown"},),
}


class Messages:
    """An ASGI application that sends these messages, some of which no server allows."""

    def __init__(self, *messages: Mapping[str, Any]) -> None:
        self._messages = messages

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for message in self._messages:
            if message.get("headers") == "iterator":
                await send({**message, "headers": iter(_HEADERS)})
            else:
                await send(dict(message))


@asynccontextmanager
async def _aiohttp_server(app: web.Application) -> AsyncIterator[tuple[str, int]]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _uvicorn_server(app: Any, http: str) -> AsyncIterator[tuple[str, int]]:
    config = uvicorn.Config(app, port=0, log_level="critical", http=http)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        await task


async def test_aiohttps_responses_are_those_of_the_bare_application(
    directory: Path, tmp_path: Path
) -> None:
    file, requests = _file(tmp_path), _requests(_AIOHTTP)
    async with _aiohttp_server(_aiohttp_app(file)) as address:
        bare = await _answers(address, requests)
    recorded = _aiohttp_app(file)
    setup(recorded, directory)
    async with _aiohttp_server(recorded) as address:
        assert recorder.is_on()
        assert await _answers(address, requests) == bare
    _see_that_they_differ(bare)


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_asgi_responses_are_those_of_the_bare_application(
    directory: Path, tmp_path: Path, http: str
) -> None:
    file, requests = _file(tmp_path), _requests(_ASGI)
    async with _uvicorn_server(_asgi_app(file), http) as address:
        bare = await _answers(address, requests)
    recorded = asgi.TelemetryMiddleware(_asgi_app(file), directory)
    async with _uvicorn_server(recorded, http) as address:
        assert recorder.is_on()
        assert await _answers(address, requests) == bare
    _see_that_they_differ(bare)
