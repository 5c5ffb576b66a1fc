from __future__ import annotations

import asyncio
import gc
import logging
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aqltelemetry import Monitor
from aqltelemetry.errors import OptionError, StateError
from aqltelemetry.hosts.aiohttp import private
from aqltelemetry.hosts.aiohttp.setup import _RECORDING, setup
from aqltelemetry.hosts.request_record import RequestRecord
from aqltelemetry.recording import recorder

Counts = Callable[..., Counter[str]]
Rows = Callable[..., list[dict[str, str]]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


_EITHER_WAY = pytest.mark.usefixtures("way")


@pytest.fixture(params=["private", "documented"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Record by aiohttp's private interface, or by the documented one as in an untested version."""
    if request.param == "documented":
        monkeypatch.setattr(private, "TESTED", ())
    return str(request.param)


@asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve an application on a real socket; give a client of it."""
    async with _running(web.AppRunner(app, access_log=None, shutdown_timeout=1.0)) as session:
        yield session


@asynccontextmanager
async def _running(runner: web.BaseRunner) -> AsyncIterator[aiohttp.ClientSession]:
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            yield session
    finally:
        await runner.cleanup()


def _app(directory: Path, *routes: web.AbstractRouteDef, **options: Any) -> web.Application:
    app = web.Application()
    app.add_routes(routes)
    setup(app, directory, **{"with_runtime": False, "with_ttfb": False, **options})
    return app


async def _hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


@_EITHER_WAY
async def test_a_request_is_one_duration_under_its_route_template(
    directory: Path, counts: Counts
) -> None:
    app = _app(directory, web.get("/version", _hello), web.get("/users/{id}", _hello))
    async with _serving(app) as client:
        for path in ("/version", "/users/1", "/users/2"):
            async with client.get(path) as response:
                assert await response.text() == "hello"
    assert counts() == {"/version [GET]": 1, "/users/{id} [GET]": 2}


async def test_the_recording_lasts_from_the_applications_start_to_its_end(directory: Path) -> None:
    app = _app(directory, web.get("/", _hello))
    assert not recorder.is_on()
    async with _serving(app):
        assert recorder.is_on()
    assert not recorder.is_on()


@_EITHER_WAY
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_the_method_is_part_of_the_label(
    directory: Path, counts: Counts, method: str
) -> None:
    async with _serving(_app(directory, web.route("*", "/x", _hello))) as client:
        await (await client.request(method, "/x")).read()
    assert counts() == {f"/x [{method}]": 1}


@_EITHER_WAY
async def test_unusual_methods_share_a_series(directory: Path, counts: Counts) -> None:
    async with _serving(_app(directory, web.route("*", "/x", _hello))) as client:
        for method in ("PROPFIND", "PURGE", "MKCOL"):
            async with client.request(method, "/x") as response:
                assert response.status == 200
    assert counts() == {"/x [OTHER]": 3}


@_EITHER_WAY
async def test_requests_without_a_route_share_one_series(directory: Path, counts: Counts) -> None:
    async with _serving(_app(directory, web.post("/x", _hello))) as client:
        for number in range(20):
            async with client.get(f"/no/such/{number}") as response:
                assert response.status == 404
        async with client.get("/x") as response:
            assert response.status == 405
    assert counts() == {"unmatched": 21, "unmatched 4xx": 21}


@_EITHER_WAY
@pytest.mark.parametrize("with_ttfb", [True, False])
async def test_each_end_of_a_request_is_counted(
    directory: Path, counts: Counts, with_ttfb: bool
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        how = request.match_info["how"]
        if how == "raise-403":
            raise web.HTTPForbidden
        if how == "raise-302":
            raise web.HTTPFound("/")
        if how == "raise-503":
            raise web.HTTPServiceUnavailable
        if how == "bug":
            raise RuntimeError("a bug of the application")
        if how == "timeout":
            raise TimeoutError
        if how == "upstream":
            raise ConnectionResetError("by a database, not by the client")
        if how == "nothing":
            return None  # type: ignore[return-value]
        return web.Response(status=int(how))

    ends = {
        "200": "",
        "204": "",
        "304": "",
        "404": "4xx",
        "500": "5xx",
        "raise-302": "",
        "raise-403": "4xx",
        "raise-503": "5xx",
        "bug": "5xx",
        "timeout": "5xx",
        "upstream": "5xx",
        "nothing": "5xx",
    }
    routes = [web.get(f"/{{how:{how}}}/{how}", answer) for how in ends]
    statuses = {}
    async with _serving(_app(directory, *routes, with_ttfb=with_ttfb)) as client:
        for how in ends:
            async with client.get(f"/{how}/{how}", allow_redirects=False) as response:
                statuses[how] = response.status
    assert statuses["timeout"] == 504
    expected = {f"/{{how}}/{how} [GET]": 1 for how in ends}
    # The response that aiohttp sends itself, after the handler, is not the handler's.
    begun = [how for how in ends if how not in {"bug", "timeout", "upstream", "nothing"}]
    expected |= {f"/{{how}}/{how} [GET] ttfb": 1 for how in begun if with_ttfb}
    expected |= {f"/{{how}}/{how} [GET] {end}": 1 for how, end in ends.items() if end}
    assert counts() == expected


@_EITHER_WAY
async def test_the_time_to_the_first_byte_is_recorded_in_addition_to_the_total(
    directory: Path, rows: Rows
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(0.05)
        await response.write(b"x")
        return response

    async with _serving(_app(directory, web.get("/", stream), with_ttfb=True)) as client:
        await (await client.get("/")).read()
    durations = {row["Label"]: float(row["Measurement"]) for row in rows()}
    assert set(durations) == {"/ [GET]", "/ [GET] ttfb"}
    assert durations["/ [GET] ttfb"] >= 0.05
    assert durations["/ [GET]"] >= durations["/ [GET] ttfb"] + 0.05


async def test_work_of_a_handler_after_its_response_is_not_part_of_the_duration(
    directory: Path, rows: Rows
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write_eof(b"x")
        await asyncio.sleep(0.5)
        return response

    async with _serving(_app(directory, web.get("/", stream))) as client:
        for _ in range(2):
            assert await (await client.get("/")).read() == b"x"
    assert [row["Label"] for row in rows()] == ["/ [GET]"] * 2
    assert all(float(row["Measurement"]) < 0.5 for row in rows())


@_EITHER_WAY
async def test_a_response_that_fails_while_it_is_sent_is_counted(
    directory: Path, counts: Counts
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("a bug of the application")

    async def during(request: web.Request) -> web.Response:
        return web.Response(body=chunks())

    async def before(request: web.Request) -> web.Response:
        response = web.Response()
        response.headers["X"] = "not\nallowed"
        return response

    async def after(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        raise RuntimeError("a bug of the application")

    routes = (web.get("/during", during), web.post("/before", before), web.get("/after", after))
    async with _serving(_app(directory, *routes, with_ttfb=True)) as client:
        for method, path in (("GET", "/during"), ("POST", "/before"), ("GET", "/after")):
            with pytest.raises(aiohttp.ClientError):
                await (await client.request(method, path)).read()
    found = counts()
    # The head was about to be written when it turned out to be invalid.
    del found["/before [POST] ttfb"]
    assert found == {
        "/during [GET]": 1,
        "/during [GET] ttfb": 1,
        "/during [GET] 5xx": 1,
        "/before [POST]": 1,
        "/before [POST] 5xx": 1,
        "/after [GET]": 1,
        "/after [GET] ttfb": 1,
        "/after [GET] 5xx": 1,
    }


async def test_a_duration_includes_the_streaming_of_the_body(directory: Path, rows: Rows) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await go_on.wait()
        return response

    go_on = asyncio.Event()
    async with _serving(_app(directory, web.get("/stream", stream))) as client:
        started = asyncio.get_running_loop().time()
        async with client.get("/stream") as response:
            assert await response.content.readexactly(5) == b"first"
            between = asyncio.get_running_loop().time() - started
            await asyncio.sleep(0.05)
            go_on.set()
            await response.read()
    (row,) = rows()
    assert float(row["Measurement"]) > 0.05
    assert between > 0


@_EITHER_WAY
async def test_a_duration_includes_sending_after_the_handler_returned(
    directory: Path, rows: Rows
) -> None:
    """A payload may be produced while it is sent."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(0.05)
        yield b"second"

    async def produce(request: web.Request) -> web.Response:
        return web.Response(body=chunks())

    async with (
        _serving(_app(directory, web.get("/", produce))) as client,
        client.get("/") as answer,
    ):
        assert await answer.read() == b"firstsecond"
    (row,) = rows()
    assert float(row["Measurement"]) > 0.05


@_EITHER_WAY
async def test_files_and_static_routes_are_recorded(
    directory: Path, tmp_path: Path, counts: Counts
) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "a.txt").write_bytes(b"a" * 300_000)

    async def send(request: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "static" / "a.txt")

    routes = (web.static("/static", tmp_path / "static"), web.get("/file", send))
    async with _serving(_app(directory, *routes)) as client:
        for path, status in (("/static/a.txt", 200), ("/static/none", 404), ("/file", 200)):
            async with client.get(path) as response:
                assert response.status == status
                assert len(await response.read()) == 300_000 or status == 404
        async with client.get("/file", headers={"Range": "bytes=0-9"}) as response:
            assert (response.status, await response.read()) == (206, b"a" * 10)
    assert counts() == {"/static [GET]": 2, "/static [GET] 4xx": 1, "/file [GET]": 2}


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65536
        await asyncio.sleep(0)


@_EITHER_WAY
@pytest.mark.parametrize("how", ["writing", "body", "file", "reading", "returning"])
async def test_a_client_that_goes_away_is_a_disconnect(
    directory: Path, tmp_path: Path, counts: Counts, how: str
) -> None:
    """While a response is written, produced or sent, a request is read, or before a response."""
    (tmp_path / "big").write_bytes(b"x" * 50_000_000)
    reached = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        reached.set()
        if how == "reading":
            await request.read()
        if how == "body":
            return web.Response(body=_endless())
        if how == "file":
            return web.FileResponse(tmp_path / "big")
        if how == "returning":
            while request.transport is not None:
                await asyncio.sleep(0.001)
            return web.Response(text="too late")
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in _endless():
            await response.write(chunk)
        return response

    app = _app(directory, web.post("/slow", handle))
    in_flight = app[_RECORDING].in_flight
    async with _serving(app) as client:
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        writer.write(b"x" if how == "reading" else b"x" * 9)
        async with asyncio.timeout(30):
            await reached.wait()
            if how in {"writing", "body", "file"}:
                await reader.readexactly(1000)
            writer.transport.abort()
            while (await in_flight.sample())[0].value:
                await asyncio.sleep(0.001)
    assert counts() == {"/slow [POST]": 1, "/slow [POST] disconnect": 1}


@_EITHER_WAY
async def test_a_handler_cancelled_at_shutdown_is_recorded(directory: Path, counts: Counts) -> None:
    reached = asyncio.Event()

    async def forever(request: web.Request) -> web.Response:
        reached.set()
        await asyncio.Event().wait()
        return web.Response()

    async with aiohttp.ClientSession() as client:
        async with _serving(_app(directory, web.get("/forever", forever))) as server:
            url = server._base_url
            assert url is not None
            task = asyncio.create_task(_ignore(client.get(url / "forever")))
            async with asyncio.timeout(30):
                await reached.wait()
        await task
    assert counts() == {"/forever [GET]": 1, "/forever [GET] disconnect": 1}


async def _ignore(request: Any) -> None:
    with suppress(aiohttp.ClientError):
        await request


@_EITHER_WAY
async def test_pipelined_requests_are_each_recorded(directory: Path, counts: Counts) -> None:
    async with _serving(_app(directory, web.get("/x", _hello))) as client:
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        one = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(one * 9 + last)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.count(b"200 OK") == 10
    assert counts() == {"/x [GET]": 10}


@_EITHER_WAY
async def test_requests_to_sub_applications_are_recorded(directory: Path, counts: Counts) -> None:
    inner = web.Application()
    inner.add_routes([web.get("/items/{id}", _hello)])
    app = _app(directory)
    app.add_subapp("/api", inner)
    async with _serving(app) as client:
        await (await client.get("/api/items/7")).read()
        await (await client.get("/api/none")).read()
    assert counts() == {"/api/items/{id} [GET]": 1, "unmatched": 1, "unmatched 4xx": 1}


@_EITHER_WAY
async def test_middlewares_and_their_responses_are_part_of_the_duration(
    directory: Path, rows: Rows
) -> None:
    @web.middleware
    async def slow(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        if "refuse" in request.query:
            raise web.HTTPUnauthorized
        return await handler(request)

    app = web.Application(middlewares=[slow])
    app.add_routes([web.get("/x", _hello)])
    setup(app, directory, with_runtime=False, with_ttfb=False)
    async with _serving(app) as client:
        await (await client.get("/x")).read()
        async with client.get("/x", params={"refuse": "1"}) as response:
            assert response.status == 401
    assert [row["Label"] for row in rows()] == ["/x [GET]", "/x [GET]", "/x [GET] 4xx"]
    assert all(float(row["Measurement"]) > 0.05 for row in rows())


async def _echo(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        await response.send_str(str(message.data))
    return response


@_EITHER_WAY
@pytest.mark.parametrize("end", ["client", "server", "lost"])
async def test_websockets_have_their_own_series_however_they_end(
    directory: Path, counts: Counts, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        if end != "server":
            return await _echo(request)
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.close()
        return response

    async with _serving(_app(directory, web.get("/ws", socket), with_ttfb=True)) as client:
        connection = await client.ws_connect("/ws")
        if end == "client":
            await connection.send_str("hello")
            assert (await connection.receive_str()) == "hello"
        if end == "lost":
            connection._response.close()
        await connection.close()
    assert counts() == {"/ws [GET] websocket": 1, "/ws [GET] websocket ttfb": 1}
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


@_EITHER_WAY
@pytest.mark.parametrize("end", ["server", "client", "error"])
async def test_event_streams_have_their_own_series_however_they_end(
    directory: Path, counts: Counts, end: str
) -> None:
    ended = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await response.write(b"data: 1\n\n")
            if end == "error":
                raise ValueError("within the stream")
            while end == "client":
                await response.write(b"data: 1\n\n" * 1000)
                await asyncio.sleep(0.001)
        finally:
            ended.set()
        return response

    async with _serving(_app(directory, web.get("/events", events), with_ttfb=True)) as client:
        response = await client.get("/events")
        await response.content.readany()
        if end == "client":
            response.close()
        async with asyncio.timeout(30):
            await ended.wait()
        response.close()
    outcome = {"client": " disconnect", "error": " 5xx", "server": " ttfb"}[end]
    assert counts() == {
        "/events [GET] events": 1,
        "/events [GET] events ttfb": 1,
        f"/events [GET] events{outcome}": 1,
    }


@_EITHER_WAY
async def test_an_error_instead_of_an_event_stream_is_not_an_event_stream(
    directory: Path, counts: Counts
) -> None:
    async def broken(request: web.Request) -> web.Response:
        raise RuntimeError("a bug of the application")

    async with _serving(_app(directory, web.get("/events", broken))) as client:
        await (await client.get("/events", headers={"Accept": "text/event-stream"})).read()
    assert counts() == {"/events [GET]": 1, "/events [GET] 5xx": 1}


async def _exchange(app: web.Application) -> list[object]:
    """Return all that a client sees of an application."""
    seen: list[object] = []
    async with _serving(app) as client:
        for method, path in (
            *(("GET", "/x"), ("HEAD", "/x"), ("POST", "/x"), ("GET", "/none")),
            *(("GET", "/stream"), ("GET", "/boom"), ("GET", "/moved"), ("GET", "/json")),
        ):
            async with client.request(method, path, allow_redirects=False) as response:
                headers = {k: v for k, v in response.headers.items() if k != "Date"}
                seen.append((method, path, response.status, headers, await response.read()))
    return seen


def _routes(signals: list[str]) -> web.Application:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"one")
        await response.write_eof(b"two")
        signals.append("after eof")
        return response

    async def boom(request: web.Request) -> web.Response:
        raise ValueError("boom")

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/x")

    async def json(request: web.Request) -> web.Response:
        response = web.json_response({"a": 1})
        response.enable_compression()
        response.set_cookie("a", "b")
        return response

    async def prepared(request: web.Request, response: web.StreamResponse) -> None:
        signals.append(f"prepare {request.path} {response.status}")
        response.headers["X-Prepared"] = "yes"

    app = web.Application()
    app.on_response_prepare.append(prepared)
    app.add_routes(
        [
            web.get("/x", _hello),
            web.get("/stream", stream),
            web.get("/boom", boom),
            web.get("/moved", moved),
            web.get("/json", json),
        ]
    )
    return app


@_EITHER_WAY
async def test_clients_and_applications_see_the_same_with_and_without_recording(
    directory: Path,
) -> None:
    """The same bytes, statuses, headers and signals with and without, on and off."""
    seen, heard = [], []
    for how in ("without", "with", "off"):
        signals: list[str] = []
        app = _routes(signals)
        if how != "without":
            setup(app, directory if how == "with" else "/proc/none", with_runtime=False)
        seen.append(await _exchange(app))
        heard.append(signals)
    assert seen[0] == seen[1] == seen[2]
    assert heard[0] == heard[1] == heard[2]


async def test_a_response_of_a_user_defined_class_is_prepared_and_ended_once(
    directory: Path,
) -> None:
    calls: list[str] = []

    class Own(web.Response):
        async def prepare(self, request: web.BaseRequest) -> Any:
            calls.append("prepare")
            return await super().prepare(request)

        async def write_eof(self, data: bytes = b"") -> None:
            calls.append("write_eof")
            await super().write_eof(data)

    async def own(request: web.Request) -> web.Response:
        return Own(text="own")

    async with _serving(_app(directory, web.get("/", own))) as client, client.get("/") as response:
        assert await response.text() == "own"
    assert calls == ["prepare", "write_eof"]


@_EITHER_WAY
@pytest.mark.parametrize("kind", [ValueError, TimeoutError, ConnectionResetError, web.HTTPGone])
async def test_an_error_while_a_response_is_prepared_is_the_same_as_without_recording(
    directory: Path,
    counts: Counts,
    caplog: pytest.LogCaptureFixture,
    kind: type[Exception],
) -> None:
    async def fail(request: web.Request, response: web.StreamResponse) -> None:
        raise kind

    seen = []
    for how in ("without", "with"):
        caplog.clear()
        app = web.Application()
        app.router.add_post("/", _hello)
        app.on_response_prepare.append(fail)
        if how == "with":
            setup(app, directory, with_runtime=False)
        async with _serving(app) as client:
            with pytest.raises(aiohttp.ClientError) as error:
                await client.post("/")
        logged = [
            (each.getMessage(), type(each.exc_info[1]) if each.exc_info else None)
            for each in caplog.records
            if each.name.startswith("aiohttp")
        ]
        seen.append((type(error.value), logged))
    assert seen[0] == seen[1]
    end = "disconnect" if kind is ConnectionResetError else "5xx"
    assert counts() == {"/ [POST]": 1, f"/ [POST] {end}": 1}


async def test_with_an_unusable_directory_the_application_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = web.Application()
    app.add_routes([web.get("/x", _hello)])
    setup(app, "/proc/monitoring")
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        async with _serving(app) as client, client.get("/x") as response:
            assert response.status == 200
    assert "the application runs unrecorded" in caplog.text


async def test_a_running_monitor_records_the_requests(
    directory: Path, tmp_path: Path, counts: Counts
) -> None:
    async with Monitor(directory, with_runtime=False) as outer:
        async with _serving(_app(tmp_path / "other", web.get("/x", _hello))) as client:
            await (await client.get("/x")).read()
        assert outer.is_running
    assert counts() == {"/x [GET]": 1}
    assert not (tmp_path / "other").exists()


async def test_an_application_may_stop_the_monitor_itself(directory: Path) -> None:
    """The application then ends normally, though its own recording has stopped already."""
    app = _app(directory, web.get("/x", _hello))
    async with Monitor(directory, with_runtime=False) as outer, _serving(app) as client:
        await outer.stop()
        async with client.get("/x") as response:
            assert response.status == 200


def test_a_wrong_option_is_raised_at_once(directory: Path) -> None:
    app = web.Application()
    with pytest.raises(OptionError, match="interval_s"):
        setup(app, directory, interval_s=0)


async def test_setting_up_twice_or_too_late_is_an_error(directory: Path) -> None:
    app = _app(directory)
    with pytest.raises(StateError, match="before"):
        setup(app, directory)
    late = web.Application()
    async with _serving(late):
        with pytest.raises(StateError, match="before the application starts"):
            setup(late, directory)


async def test_many_paths_and_methods_make_few_labels(directory: Path, counts: Counts) -> None:
    async with _serving(_app(directory, web.route("*", "/users/{id}", _hello))) as client:
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        sending = asyncio.create_task(_flood(writer))
        answers = (await reader.read()).count(b"HTTP/1.1 ")
        await sending
        writer.close()
        await writer.wait_closed()
    assert answers == 20_001
    assert counts() == {
        "/users/{id} [OTHER]": 10_000,
        "/users/{id} [GET]": 1,
        "unmatched": 10_000,
        "unmatched 4xx": 10_000,
    }


async def _flood(writer: asyncio.StreamWriter) -> None:
    for number in range(10_000):
        writer.write(f"GET /x/{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        method = ("PROPFIND", "PURGE", "MKCOL", "REPORT")[number % 4]
        writer.write(f"{method} /users/{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
    writer.write(b"GET /users/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def test_routes_beyond_the_limit_of_labels_share_one(directory: Path, counts: Counts) -> None:
    routes = [web.get(f"/{number}", _hello) for number in range(1_100)]
    async with _serving(_app(directory, *routes)) as client:
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        for number in range(1_100):
            end = "Connection: close\r\n" if number == 1_099 else ""
            writer.write(f"GET /{number} HTTP/1.1\r\nHost: x\r\n{end}\r\n".encode())
        assert (await reader.read()).count(b"HTTP/1.1 200 ") == 1_100
        writer.close()
        await writer.wait_closed()
    found = counts()
    assert found.pop("other [GET]") == 100
    assert found == {f"/{number} [GET]": 1 for number in range(1_000)}


@_EITHER_WAY
async def test_requests_in_flight_are_sampled(directory: Path, rows: Rows) -> None:
    go_on = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response()

    app = _app(directory, web.get("/", slow), interval_s=0.01)
    in_flight = app[_RECORDING].in_flight
    async with _serving(app) as client:
        tasks = [asyncio.create_task(_ignore(client.get("/"))) for _ in range(3)]
        async with asyncio.timeout(30):
            while [each.value for each in await in_flight.sample()] != [3]:
                await asyncio.sleep(0.01)
            go_on.set()
            await asyncio.gather(*tasks)
            while [each.value for each in await in_flight.sample()] != [0]:
                await asyncio.sleep(0.01)
    labels = {row["Label"] for row in rows("runtime")}
    assert "requests in flight" in labels


async def test_a_request_leaves_no_garbage_for_the_collector(directory: Path) -> None:
    """A reference cycle would give the collector more to do for each request."""
    async with _serving(_app(directory, web.get("/x", _hello), with_ttfb=True)) as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await (await client.get("/x")).read()
            # Only the class is read: objects of some libraries raise when attributes are read.
            left = [
                each
                for each in gc.get_objects()
                if any(base is RequestRecord or base is web.Request for base in type(each).__mro__)
            ]
        finally:
            gc.enable()
    assert len(left) <= 1  # the last one, which a frame may hold


async def test_an_error_of_the_router_is_the_same_as_without_recording(
    directory: Path, counts: Counts
) -> None:
    async def resolve(request: web.Request) -> web.UrlMappingMatchInfo:
        raise web.HTTPGone if request.path == "/gone" else ValueError("no way")

    app = _app(directory)
    app.router.resolve = resolve  # type: ignore[method-assign]
    async with _serving(app) as client:
        for path, status in (("/x", 500), ("/gone", 410)):
            async with client.get(path) as response:
                assert response.status == status
    assert counts() == {"unmatched": 2, "unmatched 5xx": 1, "unmatched 4xx": 1}


@_EITHER_WAY
async def test_a_request_that_a_middleware_replaces_is_recorded_as_one(
    directory: Path, counts: Counts
) -> None:
    @web.middleware
    async def cloned(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await stream(request.clone(method="GET"))

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        return response

    app = web.Application(middlewares=[cloned])
    app.add_routes([web.post("/x", _hello)])
    setup(app, directory, with_runtime=False)
    async with _serving(app) as client:
        assert (await client.post("/x")).status == 200
    assert counts() == {"/x [POST] events": 1, "/x [POST] events ttfb": 1}


@_EITHER_WAY
@pytest.mark.parametrize("recording", [True, False])
async def test_signals_before_a_response_are_sent_in_the_order_of_the_applications(
    directory: Path, recording: bool
) -> None:
    done = []

    def doing(what: str) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
        async def do(request: web.Request, response: web.StreamResponse) -> None:
            done.append((what, type(request).__name__))

        return do

    app, inner = _app(directory, web.get("/x", _hello)), web.Application()
    inner.router.add_get("/y", _hello)
    app.on_response_prepare.append(doing("outer"))
    inner.on_response_prepare.append(doing("inner"))
    app.add_subapp("/in", inner)
    async with _serving(app) as client:
        if not recording:
            await app[_RECORDING].stop()
        for path in ("/x", "/in/y", "/no"):
            await (await client.get(path)).read()
    assert done == [(what, "Request") for what in ("outer", "outer", "inner", "outer")]


@_EITHER_WAY
async def test_an_event_stream_that_is_returned_whole_is_a_plain_response(
    directory: Path, counts: Counts
) -> None:
    async def events(request: web.Request) -> web.Response:
        return web.Response(text="data: 1\n\n", content_type="text/event-stream")

    async with _serving(_app(directory, web.get("/x", events))) as client:
        await (await client.get("/x")).read()
    assert counts() == {"/x [GET]": 1}


@_EITHER_WAY
async def test_the_access_log_is_the_same_as_without_recording(
    directory: Path, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    runner = web.AppRunner(
        _app(directory, web.get("/x", _hello)), access_log_format="%r %s", shutdown_timeout=1.0
    )
    with caplog.at_level(logging.INFO, "aiohttp.access"):
        async with _running(runner) as client:
            await (await client.get("/x")).read()
            await (await client.get("/y")).read()
    assert [each.message for each in caplog.records if each.name == "aiohttp.access"] == [
        "GET /x HTTP/1.1 200",
        "GET /y HTTP/1.1 404",
    ]
    assert counts() == {"/x [GET]": 1, "unmatched": 1, "unmatched 4xx": 1}


async def test_an_application_in_a_user_defined_server_is_recorded(
    directory: Path, counts: Counts
) -> None:
    """Its connections do not report the end of a request."""
    app = _app(directory, web.get("/x", _hello), with_ttfb=True)
    app._set_loop(asyncio.get_running_loop())
    app.freeze()
    await app.startup()
    handle: Any = app._handle
    server = web.Server(handle, request_factory=app._make_request)
    runner = web.ServerRunner(server, shutdown_timeout=1.0)
    async with _running(runner) as client:
        for _ in range(2):
            await (await client.get("/x")).read()
    await app.cleanup()
    assert counts() == {"/x [GET]": 2, "/x [GET] ttfb": 2}


_UNKNOWN = ["4.0.0a2", "4.1.0", "3.15.0", "3.9.5", "5.0.0.dev1", "unknown"]


@pytest.mark.parametrize("version", _UNKNOWN)
async def test_an_untested_version_is_recorded_by_the_documented_interface(
    directory: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(aiohttp, "__version__", version)
    app = _app(directory, web.get("/users/{id}", _hello))
    assert not {"_handle", "_make_request", "_make_handler"} & set(vars(app))
    async with _serving(app) as client:
        for path, status in (("/users/1", 200), ("/none", 404)):
            async with client.get(path) as response:
                assert response.status == status
    assert counts() == {"/users/{id} [GET]": 1, "unmatched": 1, "unmatched 4xx": 1}


@pytest.mark.parametrize("needed", private.NEEDED + private.NEEDED_BY_COMPILED)
async def test_an_application_is_recorded_where_a_private_part_is_missing(
    directory: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, needed: tuple[object, str]
) -> None:
    owner, name = needed
    has = private._has
    monkeypatch.setattr(private, "_has", lambda *each: each != (owner, name) and has(*each))
    assert not private.is_tested_compiled()
    app = _app(directory, web.get("/users/{id}", _hello))
    assert "_make_handler" not in vars(app)
    assert ("_handle" in vars(app)) == (needed not in private.NEEDED)
    async with _serving(app) as client, client.get("/users/1") as response:
        assert await response.text() == "hello"
    assert counts() == {"/users/{id} [GET]": 1}


@pytest.mark.filterwarnings("ignore:Inheritance class")
@pytest.mark.parametrize("name", ["_handle", "_make_request", "_make_handler"])
async def test_an_application_is_recorded_where_a_private_part_is_read_only(
    directory: Path, counts: Counts, name: str
) -> None:
    class Application(web.Application):
        pass

    method: Any = getattr(web.Application, name)
    setattr(Application, name, property(method.__get__))
    app = Application()
    app.add_routes([web.get("/users/{id}", _hello)])
    setup(app, directory, with_runtime=False, with_ttfb=False)
    async with _serving(app) as client, client.get("/users/1") as response:
        assert await response.text() == "hello"
    assert counts() == {"/users/{id} [GET]": 1}


@_EITHER_WAY
async def test_applications_of_domains_have_their_own_labels(
    directory: Path, counts: Counts
) -> None:
    """They are named by their rules, not by the header of the request."""
    app = _app(directory, web.get("/items/{i}", _hello))
    for domain in ("a.example.com", "*.example.org"):
        inner, below = web.Application(), web.Application()
        inner.router.add_get("/items/{i}", _hello)
        below.router.add_get("/deep", _hello)
        inner.add_subapp("/below", below)
        app.add_domain(domain, inner)
    async with _serving(app) as client:
        for host, path in (
            *(("a.example.com", "/items/1"), ("x.example.org", "/items/2")),
            *(("y.example.org", "/items/3"), ("other", "/items/4")),
            *(("A.Example.COM", "/below/deep"), ("z.example.org", "/below/deep")),
        ):
            async with client.get(path, headers={"Host": host}) as response:
                assert response.status == 200
    assert counts() == {
        "a.example.com/items/{i} [GET]": 1,
        "*.example.org/items/{i} [GET]": 2,
        "/items/{i} [GET]": 1,
        "a.example.com/below/deep [GET]": 1,
        "*.example.org/below/deep [GET]": 1,
    }


async def test_requests_that_the_parser_refuses_are_counted(
    directory: Path, counts: Counts
) -> None:
    app = _app(directory, web.get("/x", _hello), with_ttfb=True)
    async with _serving(app) as client:
        url = client._base_url
        assert url is not None
        for request in (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"nonsense\r\n\r\n"):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
            writer.write(request)
            assert (await reader.read()).startswith(b"HTTP/1.")
            writer.close()
            await writer.wait_closed()
        in_flight = app[_RECORDING].in_flight
        assert in_flight.gauge.value == 0
    assert counts() == {
        "/x [GET]": 2,
        "/x [GET] ttfb": 2,
        "unmatched": 2,
        "unmatched 4xx": 2,
        "unmatched ttfb": 2,
    }


def _tenant(request: web.Request) -> str | None:
    if request.path == "/fails":
        raise KeyError("tenant")
    return {"/users/1": "/users/first", "/users/2": ""}.get(request.path)


@_EITHER_WAY
@pytest.mark.parametrize("named", ["given", "environment"])
async def test_a_user_defined_template_takes_precedence_over_aiohttps_routes(
    directory: Path,
    counts: Counts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    named: str,
) -> None:
    options: dict[str, Any] = {}
    if named == "given":
        options["template"] = _tenant
    else:
        module = type(sys)("templates_of_a_test")
        module.function = _tenant  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "templates_of_a_test", module)
        monkeypatch.setenv("AQLTELEMETRY_TEMPLATE", "templates_of_a_test:function")
    routes = (web.get("/users/{id}", _hello), web.get("/fails", _hello))
    async with _serving(_app(directory, *routes, **options)) as client:
        for path in ("/users/1", "/users/2", "/users/3", "/users/1", "/fails", "/fails"):
            async with client.get(path) as response:
                assert response.status == 200
    assert counts() == {"/users/first [GET]": 2, "/users/{id} [GET]": 2, "unmatched": 2}
    assert caplog.text.count("no template for a request") == 1


def test_a_wrong_template_is_raised_at_once(directory: Path) -> None:
    for wrong in ("no_such_module:function", 7):
        app = web.Application()
        with pytest.raises(OptionError, match="template"):
            setup(app, directory, template=wrong)  # type: ignore[arg-type]
        setup(app, directory)


@pytest.mark.parametrize("how", ["bug", "cancelled"])
async def test_a_traceback_has_at_most_one_frame_of_the_host(
    directory: Path, caplog: pytest.LogCaptureFixture, way: str, how: str
) -> None:
    """Whether a handler fails at once, or when it is cancelled."""

    async def broken(request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(0.001 if how == "cancelled" else None):
                await asyncio.sleep(0 if how == "bug" else 60)
        except TimeoutError:
            raise RuntimeError("a bug of the application") from None
        raise RuntimeError("a bug of the application")

    async with (
        _serving(_app(directory, web.get("/x", broken))) as client,
        client.get("/x") as response,
    ):
        assert response.status == 500
    (exc_info,) = [each.exc_info for each in caplog.records if each.exc_info]
    frames = traceback.extract_tb(exc_info[2])
    # Those of compiled functions have a relative path.
    package = f"{Path(recorder.__file__).parents[1]}/", "aqltelemetry/"
    assert len([each for each in frames if each.filename.startswith(package)]) <= 1
    assert frames[-1].name == "broken"
