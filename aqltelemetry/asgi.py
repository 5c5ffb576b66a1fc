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
    ANSWERING,
    EVENTS,
    RECORDED_BY,
    TEMPLATE,
    WEBSOCKET,
    Exchange,
    InFlight,
    Labels,
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
_MAY_BE_LAST = ("http.response.body", "http.response.pathsend")
_BODY = (*_MAY_BE_LAST, "websocket.accept")
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
        self.with_ttfb = with_ttfb
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
        if self._starting is None or not self._starting.done():
            await self._ready()
        # Within another one of its kind, only the outer one records.
        known = scope["type"] in ("http", "websocket")
        if not (known and is_on()) or scope.setdefault(RECORDED_BY, self) is not self:
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        self._in_flight.begin()
        ANSWERING.set(scope)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except BaseException as exc:
            exchange.fail(exc)
            raise
        finally:
            # Not reset by a token, which another context than this would not have.
            ANSWERING.set(None)
            exchange.record()
            self._in_flight.end()

    def labels(self, scope: Scope, root_path: str, exchange: Exchange) -> Labels:
        """Return the labels of an exchange that has ended."""
        template = scope.get(TEMPLATE) or self._template(scope, root_path, exchange.status)
        return self._labels.of(template, str(scope.get("method", "GET")), exchange.kind)

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
        loop = asyncio.get_running_loop()
        if self._starting is None or self._starting.get_loop().is_closed():
            self._starting = loop.create_task(self._start())
        # What starts on another event loop can't be waited for on this one.
        if not self._starting.done() and self._starting.get_loop() is loop:
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


class _Exchange(Exchange):
    """A connection, seen by what its application receives and sends."""

    def __init__(
        self, middleware: TelemetryMiddleware, scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__(WEBSOCKET if scope["type"] == "websocket" else "")
        self._middleware = middleware
        self._scope = scope
        self._root_path = scope.get("root_path", "")
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """Receive as the application would, and note that the client has gone."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.ended:
            self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        """Send as the application would; the exchange ends with its last message."""
        kind = message["type"]
        if kind == "http.response.start":
            self._begin(message)
        elif kind in _BODY:
            self.first_byte()
        try:
            await self._send(message)
        except OSError:  # what a server raises when the client has gone
            self.disconnected = True
            raise
        # A background task may follow the response: it is not the client's time.
        if kind in _MAY_BE_LAST and not message.get("more_body", False):
            self.record()

    def fail(self, exc: BaseException) -> None:
        """Note how the application failed."""
        # A server cancels what nobody waits for any more; all else it answers by an error.
        if isinstance(exc, asyncio.CancelledError):
            self.disconnected = True
        else:
            self.status = _FAILED

    def record(self) -> None:
        """Record what became of it, once."""
        if not self.ended:
            middleware = self._middleware
            labels = middleware.labels(self._scope, self._root_path, self)
            self.end(labels, middleware.with_ttfb)

    def _begin(self, message: Message) -> None:
        self.status = message["status"]
        for name, value in message.get("headers", ()):
            if name.lower() == b"content-type" and value.startswith(b"text/event-stream"):
                self.kind = EVENTS
