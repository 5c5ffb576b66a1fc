"""Shows the page of a recording, and its metrics, as a part of an ASGI application."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus

from aqltelemetry.errors import ViewsError
from aqltelemetry.hosts.asgi.request_record import Receive, Scope, Send
from aqltelemetry.hosts.views_process import ViewsProcess, metrics
from aqltelemetry.system.async_backend import asyncio_task

_TEXT = {"Content-Type": "text/plain; charset=utf-8"}


class TelemetryViews:
    """An ASGI application that shows the recording of a service, live.

        app = FastAPI()
        app.add_middleware(TelemetryMiddleware, monitoring_dir="_monitoring")
        app.mount("/_telemetry", TelemetryViews())

    The page is then at `/_telemetry/`. **Everybody who can reach it sees all labels, workers
    and durations**: wrap it into the authentication of the service.

    Reading and computing are done by another process of lower priority, which runs while somebody
    looks; it needs the packages of `aqltelemetry[aiohttp,report]`. The service passes on bytes.
    The server must run asyncio or uvloop; on trio the answer is 501.

    Parameters:
        monitoring_dir: The directory to show; by default the one that this process records into.

    Raises:
        OptionError: For a wrong directory.
    """

    def __init__(self, monitoring_dir: str | os.PathLike[str] | None = None) -> None:
        self._process = ViewsProcess(monitoring_dir)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the page, or for what the page asks for."""
        if scope["type"] != "http":
            await _refuse_other(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        query = scope.get("query_string", b"").decode("latin-1")
        if scope["method"] != "GET":
            await _send_text(send, HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered")
        elif not path:
            # The page's own links are relative to it.
            headers = {"Location": scope["path"] + "/"}
            await _send_text(send, HTTPStatus.PERMANENT_REDIRECT, "", headers)
        elif asyncio_task() is None:
            await _send_text(send, HTTPStatus.NOT_IMPLEMENTED, "this page needs asyncio or uvloop")
        else:
            await self._show(path, query, send)

    async def _show(self, path: str, query: str, send: Send) -> None:
        await _pass_on(self._process, path, query, "*/*", send)


class TelemetryMetrics:
    """An ASGI application that answers the scrapes of Prometheus.

        app = FastAPI()
        app.add_middleware(TelemetryMiddleware, monitoring_dir="_monitoring")
        app.mount("/metrics", TelemetryMetrics())

    Each scrape has the metrics of all workers that record into the directory, whichever of them
    answers. **Everybody who can reach the path sees all labels**: wrap it into the authentication
    of the service.

    Reading and counting are done by another process of lower priority, which runs while it is
    scraped; it needs the packages of `aqltelemetry[prometheus]`. The service passes on bytes. The
    server must run asyncio or uvloop; on trio the answer is 501.

    Parameters:
        monitoring_dir: The directory to read; by default the one that this process records into.
        buckets: The upper bounds of the buckets of durations, in seconds; by default 0.001 to 10.

    Raises:
        OptionError: For wrong buckets, or a wrong directory.
    """

    def __init__(
        self,
        monitoring_dir: str | os.PathLike[str] | None = None,
        buckets: Sequence[float] | None = None,
    ) -> None:
        self._process = ViewsProcess(monitoring_dir, metrics(buckets))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a scrape; any path below that of the mount is the same."""
        if scope["type"] != "http":
            await _refuse_other(scope, receive, send)
        elif scope["method"] != "GET":
            await _send_text(send, HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered")
        elif asyncio_task() is None:
            await _send_text(send, HTTPStatus.NOT_IMPLEMENTED, "this needs asyncio or uvloop")
        else:
            accept = dict(scope["headers"]).get(b"accept", b"*/*").decode("latin-1")
            await _pass_on(self._process, "/metrics", "", accept, send)


async def _pass_on(process: ViewsProcess, path: str, query: str, accept: str, send: Send) -> None:
    try:
        async with process.get(path, query, accept) as answer:
            await _send(send, answer.status, answer.headers, answer.body)
    except ViewsError as exc:
        await _send_text(send, HTTPStatus.SERVICE_UNAVAILABLE, str(exc))


async def _refuse_other(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept a lifespan, and refuse a websocket."""
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
    else:
        await receive()
        await send({"type": "websocket.close"})


async def _send_text(
    send: Send, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield f"{text}\n".encode()

    await _send(send, status, {**_TEXT, **(headers or {})}, body())


async def _send(
    send: Send, status: int, headers: Mapping[str, str], body: AsyncIterator[bytes]
) -> None:
    raw = [
        (name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()
    ]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    async for chunk in body:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
