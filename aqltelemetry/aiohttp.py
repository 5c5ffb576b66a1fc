"""The aiohttp host: one line that has every request of an application recorded.

setup(app, "_monitoring")
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Unpack

from aiohttp import hdrs, web

from aqltelemetry.clock import monotonic_ns
from aqltelemetry.errors import AlreadyRunningError, StateError, TelemetryError
from aqltelemetry.exchange import EVENTS, WEBSOCKET, RequestLabels, guarded
from aqltelemetry.monitor import Monitor
from aqltelemetry.recorder import append_duration, is_on
from aqltelemetry.settings import Options, settings

_EVENT_STREAM = "text/event-stream"

_log = logging.getLogger("aqltelemetry")
_MONITOR = web.AppKey("aqltelemetry", Monitor)
# What newer aiohttp wants such keys to be, as it wants applications' keys.
_KIND: Any = getattr(web, "RequestKey", lambda name, _: name)("aqltelemetry_kind", str)
_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def setup(
    app: web.Application,
    monitoring_dir: str | os.PathLike[str] | None = None,
    **options: Unpack[Options],
) -> None:
    """Record the application's requests while it runs, by a monitor of its own.

    Each request is one duration, from the moment its head was read to the last
    byte of the response handed to the transport, labelled with its route's
    template: `/users/{id} [GET]`. If another monitor runs in the process, that
    one records. If the directory can't be used when the application starts, an
    error is logged and the application runs unrecorded. Requests are those of the
    outermost application, to be set up before it starts; those of its
    sub-applications are among them.

    Raises OptionError, and StateError for an application that has been set up
    or started before.
    """
    settings(monitoring_dir, options)
    if _MONITOR in app:
        msg = "setup was called for this application before"
        raise StateError(msg)
    if app.frozen:
        msg = "setup must be called before the application starts"
        raise StateError(msg)
    app[_MONITOR] = Monitor(monitoring_dir, **options)
    # First of all, so that what other contexts do is recorded too.
    app.cleanup_ctx.insert(0, _recording)
    app.on_response_prepare.append(_note_kind)
    # Around all middlewares. As a middleware it would cost several times as much:
    # with the first one, aiohttp takes a longer way through every request.
    object.__setattr__(app, "_handle", RequestTimer(app._handle))  # noqa: SLF001


async def _recording(app: web.Application) -> AsyncIterator[None]:
    monitor = app[_MONITOR]
    try:
        await monitor.start()
    except AlreadyRunningError as exc:
        _log.info("requests are recorded by the running monitor, into %s", exc.directory)
    except (TelemetryError, OSError) as exc:
        _log.error("the application runs unrecorded: %s", exc)
    yield
    if monitor.is_running:
        try:
            await monitor.stop()
        except TelemetryError as exc:
            _log.error("the recording could not be stopped: %s", exc)


class RequestTimer:
    """Handles a request as an application does, and records how long that took.

    aiohttp sends a response after its handler has returned it, by `prepare` and
    `write_eof`. Both are wrapped on the response itself, so the duration ends
    when the last of them does, and nothing happens in another order than without.
    """

    def __init__(self, handle: _Handle) -> None:
        self._handle = handle
        self._labels = RequestLabels()
        self._template = guarded(_template)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Handle a request; whatever the application raises passes through."""
        if not is_on():
            return await self._handle(request)
        started_ns = monotonic_ns()
        try:
            response = await self._handle(request)
        except web.HTTPException as exc:
            self._end_with(exc, request, started_ns)
            raise
        except BaseException:
            self._record(request, started_ns, request.get(_KIND, ""))
            raise
        self._end_with(response, request, started_ns)
        return response

    def _end_with(self, response: object, request: web.Request, started_ns: int) -> None:
        if not isinstance(response, web.StreamResponse):
            # A handler's mistake, which aiohttp answers by an error.
            self._record(request, started_ns, "")
            return
        prepare, write_eof, kind = response.prepare, response.write_eof, _kind(response)

        async def timed_prepare(request: web.BaseRequest) -> object:
            try:
                return await prepare(request)
            except BaseException:
                end()
                raise

        async def timed_write_eof(*data: bytes) -> None:
            try:
                await write_eof(*data)
            finally:
                end()

        def end() -> None:
            del response.prepare, response.write_eof
            self._record(request, started_ns, kind)

        response.prepare = timed_prepare  # type: ignore[method-assign, assignment]
        response.write_eof = timed_write_eof  # type: ignore[method-assign, assignment]

    def _record(self, request: web.Request, started_ns: int, kind: str) -> None:
        end_ns = monotonic_ns()
        label = self._labels.of(self._template(request), request.method)
        append_duration(label + kind, end_ns, end_ns - started_ns)


def _template(request: web.Request) -> str | None:
    match = request.match_info
    if match is None or match.http_exception is not None:  # type: ignore[redundant-expr]
        return None
    resource = match.route.resource
    return resource.canonical if resource else None


def _kind(response: web.StreamResponse) -> str:
    if isinstance(response, web.WebSocketResponse):
        return WEBSOCKET
    # As text: the parsed content type would be kept for each response.
    if response.headers.get(hdrs.CONTENT_TYPE, "").startswith(_EVENT_STREAM):
        return EVENTS
    return ""


async def _note_kind(request: web.Request, response: web.StreamResponse) -> None:
    # For a handler that ends by an exception after it has begun to answer, as it
    # does when its client goes away.
    if kind := _kind(response):
        request[_KIND] = kind
