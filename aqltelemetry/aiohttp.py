"""The aiohttp host: one line that has every request of an application recorded.

setup(app, "_monitoring")
"""

from __future__ import annotations

import logging
import os
from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, Unpack

from aiohttp import hdrs, web
from multidict import CIMultiDict

from aqltelemetry.clock import monotonic_ns
from aqltelemetry.errors import AlreadyRunningError, AlreadySetUpError, StateError, TelemetryError
from aqltelemetry.exchange import (
    EVENTS,
    WEBSOCKET,
    Exchange,
    InFlight,
    Labels,
    RequestLabels,
    guarded,
)
from aqltelemetry.monitor import Monitor
from aqltelemetry.recorder import is_on
from aqltelemetry.settings import Options, settings

_FAILED = 500
_UPGRADED = 101
_STATUS = slice(9, 12)  # as in "HTTP/1.1 200 OK"
_EVENT_STREAM = "text/event-stream"

_log = logging.getLogger("aqltelemetry")
_MONITOR = web.AppKey("aqltelemetry", Monitor)
_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def setup(
    app: web.Application,
    monitoring_dir: str | os.PathLike[str] | None = None,
    *,
    with_ttfb: bool = True,
    **options: Unpack[Options],
) -> None:
    """Record the application's requests while it runs, by a monitor of its own.

    Each request is one duration, from the moment its head was read to the last
    byte of the response handed to the transport, labelled with its route's
    template: `/users/{id} [GET]`; for what is recorded besides see
    `aqltelemetry.exchange`. `with_ttfb` says whether the time until the response
    begins is recorded too. If another monitor runs in the process, that one
    records. If the directory can't be used when the application starts, an error
    is logged and the application runs unrecorded. Requests are those of the
    outermost application, to be set up before it starts; those of its
    sub-applications are among them.

    Raises OptionError, and StateError for an application that has been set up
    or started before.
    """
    settings(monitoring_dir, options)
    if _MONITOR in app:
        raise AlreadySetUpError
    if app.frozen:
        msg = "setup must be called before the application starts"
        raise StateError(msg)
    in_flight = InFlight()
    options["samplers"] = (*options.get("samplers", ()), in_flight)
    app[_MONITOR] = Monitor(monitoring_dir, **options)
    # First of all, so that what other contexts do is recorded too.
    app.cleanup_ctx.insert(0, _recording)
    # Around all middlewares. As a middleware it would cost several times as much:
    # with the first one, aiohttp takes a longer way through every request.
    timer = RequestTimer(app._handle, in_flight, with_ttfb=with_ttfb)  # noqa: SLF001
    object.__setattr__(app, "_handle", timer)


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
    """Handles a request as an application does, and records what became of it."""

    def __init__(self, handle: _Handle, in_flight: InFlight, *, with_ttfb: bool) -> None:
        self._handle = handle
        self.in_flight = in_flight
        self.with_ttfb = with_ttfb
        self._labels = RequestLabels()
        self._template = guarded(_template)
        self._known: dict[tuple[web.AbstractRoute, str, str], Labels] = {}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Handle a request; whatever the application raises passes through."""
        if not is_on():
            return await self._handle(request)
        exchange = _Request(self, request)
        try:
            response = await self._handle(request)
        except web.HTTPException as exc:
            exchange.answer(exc)
            raise
        except BaseException as exc:
            exchange.fail(exc, disconnected=_is_gone(request))
            raise
        if type(response) is not web.Response or exchange.first_ns:
            exchange.answer(response)
            return response
        try:
            exchange.unhook("write_headers")
            await response.prepare(request)
            exchange.take_head(response.status, response.headers)
            await response.write_eof()
        except BaseException as exc:
            exchange.fail(exc, disconnected=True)
            if not isinstance(exc, Exception):
                raise
            # For aiohttp to meet it where it would have.
            response.prepare = partial(_raise, exc)  # type: ignore[method-assign]
        else:
            exchange.record()
        return response

    def labels(self, request: web.Request, kind: str) -> Labels:
        """Return the labels of a request, which those of a route share."""
        try:
            return self._known[request.match_info.route, request.method, kind]
        except Exception:  # noqa: BLE001 - a router may have failed
            return self._learn(request, kind)

    def _learn(self, request: web.Request, kind: str) -> Labels:
        template, method = self._template(request), request.method
        labels = self._labels.of(template, method, kind)
        # What no route answers has a new one each time, and clients may invent methods.
        if template is not None and self._labels.keeps(method):
            self._known[request.match_info.route, method, kind] = labels
        return labels


class _Request(Exchange):
    """A request and its response.

    A plain response is sent by the timer, in the coroutine that waited for the handler;
    aiohttp, which does so when it gets it, finds that sent. Of any other the `prepare` and
    `write_eof`, which may do more than once what they do, are wrapped on the response
    itself, so the request ends when the last of them does. What the head of the response
    is written by is wrapped on the request's writer, since a handler may stream a
    response before it returns it.
    """

    _response: web.StreamResponse | None = None

    def __init__(self, timer: RequestTimer, request: web.Request) -> None:
        self._timer = timer
        self._request = request
        self._writer = writer = request.writer
        writer.write_headers = self._begin  # type: ignore[method-assign, assignment]
        timer.in_flight.begin()
        self.started_ns = monotonic_ns()

    def answer(self, response: web.StreamResponse) -> None:
        """Wait until what the handler returned is sent."""
        if self.ended:
            return
        try:
            self._prepare, self._write_eof = response.prepare, response.write_eof
            response.prepare = self._timed_prepare  # type: ignore[method-assign]
            response.write_eof = self._timed_write_eof  # type: ignore[method-assign]
        except AttributeError:  # a handler's mistake, which aiohttp answers by an error
            self.status = _FAILED
            self._end()
        else:
            self._response = response

    def fail(self, exc: BaseException, *, disconnected: bool) -> None:
        """End by an exception, which aiohttp answers by an error if there is a client."""
        if isinstance(exc, CancelledError) or (disconnected and isinstance(exc, ConnectionError)):
            self.disconnected = True
        else:
            self.status = _FAILED
        self._end()

    def take_head(self, status: int, headers: CIMultiDict[str]) -> None:
        """Note what the response's head says, and that it is written."""
        self.first_ns = monotonic_ns()
        self.status = status
        if status == _UPGRADED:
            self.kind = WEBSOCKET
        elif _EVENT_STREAM in headers.get(hdrs.CONTENT_TYPE, ""):
            self.kind = EVENTS

    def unhook(self, name: str) -> None:
        """Leave a method of the request's writer as it was."""
        # Not by its `__dict__`, since an object of which that was asked for is a slow one.
        try:
            delattr(self._writer, name)
        except AttributeError:
            return

    def record(self) -> None:
        """Record what became of the request, which has ended."""
        timer = self._timer
        self.end(timer.labels(self._request, self.kind), timer.with_ttfb)
        timer.in_flight.end()

    def _begin(self, status_line: str, headers: CIMultiDict[str]) -> Awaitable[None]:
        try:
            self.take_head(int(status_line[_STATUS]), headers)
        except ValueError:  # a handler that writes a head of its own
            self.take_head(0, headers)
        writer = self._writer
        self.unhook("write_headers")
        if self._response is None:
            # Amid the handler, which may end the response and go on.
            self._finish = writer.write_eof
            writer.write_eof = self._timed_finish  # type: ignore[method-assign]
        return writer.write_headers(status_line, headers)

    # What fails while a response is sent, aiohttp takes for a client gone if it is a
    # ConnectionError, and so do we: the transport of a file may not know it yet.

    async def _timed_prepare(self, request: web.BaseRequest) -> Any:
        try:
            return await self._prepare(request)
        except BaseException as exc:
            self.fail(exc, disconnected=True)
            raise

    async def _timed_write_eof(self, *args: Any, **kwargs: Any) -> None:
        try:
            await self._write_eof(*args, **kwargs)
        except BaseException as exc:
            self.fail(exc, disconnected=True)
            raise
        self._end()

    async def _timed_finish(self, *args: Any, **kwargs: Any) -> None:
        await self._finish(*args, **kwargs)
        self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.unhook("write_headers")
        self.unhook("write_eof")
        if self._response is not None:
            wrapped = self._response.__dict__
            wrapped.pop("prepare", None)
            wrapped.pop("write_eof", None)
        self.record()


async def _raise(exc: Exception, _: web.BaseRequest) -> NoReturn:
    raise exc


def _template(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    # What no route matches has one that makes the error, of no resource.
    return resource.canonical if resource is not None else None


def _is_gone(request: web.Request) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()
