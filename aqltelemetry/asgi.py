"""The ASGI host: `app = TelemetryMiddleware(app, "_monitoring")`.

For Starlette, FastAPI, Litestar, and whatever else speaks ASGI. It is no more
than a callable around a callable: it reads no body, makes no task of a request,
and leaves context variables alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, Unpack

from aqltelemetry.errors import AlreadyRunningError, TelemetryError
from aqltelemetry.exchange import (
    EVENTS,
    RECORDED_BY,
    WEBSOCKET,
    Exchange,
    InFlight,
    RequestLabels,
    guarded,
)
from aqltelemetry.monitor import Monitor
from aqltelemetry.recorder import is_on
from aqltelemetry.routes import asgi_template
from aqltelemetry.settings import Options, settings

_log = logging.getLogger("aqltelemetry")
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_FAILED = 500
_LAST_MESSAGES = frozenset(
    {"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"}
)


class TelemetryMiddleware:
    """Records each request of an ASGI application, by a monitor of its own.

    The monitor starts and stops with the application's lifespan, or starts with
    the first request where the server or the application has none. If another
    monitor runs in the process, that one records. If the directory can't be
    used, an error is logged and the application runs unrecorded. For labels see
    `aqltelemetry.exchange`; `with_ttfb` says whether the time to the first byte is
    recorded too. Raises OptionError.
    """

    def __init__(
        self,
        app: Application,
        monitoring_dir: str | os.PathLike[str] | None = None,
        *,
        with_ttfb: bool = True,
        **options: Unpack[Options],
    ) -> None:
        settings(monitoring_dir, options)
        self._app = app
        self._with_ttfb = with_ttfb
        self._labels = RequestLabels()
        self._template = guarded(asgi_template)
        self._in_flight = InFlight()
        options["samplers"] = (*options.get("samplers", ()), self._in_flight)
        self._monitor = Monitor(monitoring_dir, **options)
        self._starting: asyncio.Future[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection; whatever the application raises passes through."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        await self._ready()
        # Within another one of its kind, only the outer one records.
        known = scope["type"] in ("http", "websocket")
        if not (known and is_on()) or scope.setdefault(RECORDED_BY, self) is not self:
            await self._app(scope, receive, send)
            return
        self._in_flight.begin()
        try:
            await self._timed(scope, receive, send)
        finally:
            self._in_flight.end()

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(WEBSOCKET if scope["type"] == "websocket" else "")
        root_path = scope.get("root_path", "")

        def end() -> None:
            if not exchange.ended:
                template = self._template(scope, root_path, exchange.status)
                labels = self._labels.of(template, _method(scope), exchange.kind)
                exchange.end(labels, self._with_ttfb)

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not exchange.ended:
                exchange.disconnected = True
            return message

        async def watched_send(message: Message) -> None:
            _note(exchange, message)
            try:
                await send(message)
            except OSError:  # what a server raises when the client has gone
                exchange.disconnected = True
                raise
            if _is_last(message):
                end()

        try:
            await self._app(scope, watched_receive, watched_send)
        except BaseException as exc:
            _fail(exchange, exc)
            raise
        finally:
            end()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        heard = False

        async def watched_receive() -> Message:
            nonlocal heard
            heard = True
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._ready()
            return message

        async def watched_send(message: Message) -> None:
            if message["type"] in _LAST_MESSAGES:
                await self._stop()
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        except Exception:
            if heard:
                raise
            # It knows no lifespan, as Django's; the recording has one all the same.
            for event in ("startup", "shutdown"):
                await watched_receive()
                await watched_send({"type": f"lifespan.{event}.complete"})

    async def _ready(self) -> None:
        """Start the monitor if this is the first time; wait until it is."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        if not self._starting.done():
            await asyncio.shield(self._starting)

    async def _start(self) -> None:
        try:
            await self._monitor.start()
        except AlreadyRunningError as exc:
            _log.info("requests are recorded by the running monitor, into %s", exc.directory)
        except (TelemetryError, OSError) as exc:
            _log.error("the application runs unrecorded: %s", exc)

    async def _stop(self) -> None:
        self._starting = None
        if self._monitor.is_running:
            try:
                await self._monitor.stop()
            except TelemetryError as exc:
                _log.error("the recording could not be stopped: %s", exc)


def _note(exchange: Exchange, message: Message) -> None:
    kind = message["type"]
    if kind == "http.response.start":
        exchange.status = message["status"]
        for name, value in message.get("headers", ()):
            if name.lower() == b"content-type" and value.startswith(b"text/event-stream"):
                exchange.kind = EVENTS
    elif kind in ("http.response.body", "http.response.pathsend", "websocket.accept"):
        exchange.first_byte()


def _fail(exchange: Exchange, exc: BaseException) -> None:
    # A server cancels what nobody waits for any more; all else it answers by an error.
    if isinstance(exc, asyncio.CancelledError):
        exchange.disconnected = True
    else:
        exchange.status = _FAILED


def _is_last(message: Message) -> bool:
    # A background task may follow the response: it is not the client's time.
    if message["type"] == "http.response.body":
        return not message.get("more_body", False)
    return bool(message["type"] == "http.response.pathsend")


def _method(scope: Scope) -> str:
    return str(scope.get("method", "GET"))
