"""How long a request to an aiohttp application takes, and what becomes of it.

Its compiled twin, `_requests.pyx`, handles the usual request, which a handler answers by
returning a plain response, and leaves all others to this module.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn

from aiohttp import hdrs, web
from multidict import CIMultiDict

from aqltelemetry.hosts.aiohttp import private
from aqltelemetry.hosts.aiohttp.documented import DocumentedTimer
from aqltelemetry.hosts.aiohttp.labels import RouteLabels
from aqltelemetry.hosts.labels import EVENTS, WEBSOCKET, Labels
from aqltelemetry.hosts.request_record import InFlight, RequestRecord
from aqltelemetry.recording.recorder import is_on
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.extensions import load

compiled = load(__name__) if private.is_tested_compiled() else None
if compiled is not None:
    from aqltelemetry.hosts.aiohttp.classes import TimedProtocol, TimedRequest, timed_server

_FAILED = 500
_UPGRADED = 101
_STATUS = slice(9, 12)  # as in "HTTP/1.1 200 OK"
_EVENT_STREAM = "text/event-stream"

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What an application handles a request by."""


def time_requests(
    app: web.Application,
    in_flight: InFlight,
    *,
    with_ttfb: bool,
    template: Callable[[web.Request], str | None] | None = None,
) -> None:
    """Have an application record each request; before it is started."""
    labels = RouteLabels(template)
    if private.is_tested():
        # Around all middlewares. As a middleware it would cost several times as much:
        # with the first one, aiohttp takes a longer way through every request.
        timer = RequestTimer(app._handle, in_flight, with_ttfb=with_ttfb, labels=labels)  # noqa: SLF001
        make = app._make_request  # noqa: SLF001
        if compiled is not None:
            usual = compiled.RequestTimer(timer, make, app._handle, TimedRequest, TimedProtocol)  # noqa: SLF001
            serve = partial(timed_server, app._make_handler)  # noqa: SLF001
            if private.replace(
                app, _make_request=usual.make, _make_handler=serve, _handle=usual.handle
            ):
                return
        make = partial(_make, timer, make)
        if private.replace(app, _make_request=make, _handle=timer.handle):
            return
    DocumentedTimer(labels, in_flight, with_ttfb=with_ttfb).add_to(app)


def _make(timer: RequestTimer, make: Callable[..., web.Request], *arguments: Any) -> web.Request:
    request = make(*arguments)
    if arguments[0] is private.REFUSED:
        timer.refused(request)
    return request


class RequestTimer:
    """Handles a request as an application does, and records what became of it."""

    plain: type[web.Response] = web.Response
    """What is sent whole by a timer itself, so never a stream."""
    refused_message = private.REFUSED
    """The message of requests that are answered without the application."""

    def __init__(
        self,
        handle: Handle,
        in_flight: InFlight,
        *,
        with_ttfb: bool,
        labels: RouteLabels | None = None,
    ) -> None:
        self._handle = handle
        self.in_flight = in_flight
        self.with_ttfb = with_ttfb
        self._labels = labels or RouteLabels()
        # On the object, as what most requests ask for.
        self.labels, self.knows = self._labels.of, self._labels.knows

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handle a request; whatever the application raises passes through."""
        if not is_on():
            return await self._handle(request)
        self.in_flight.begin()
        exchange = Request(self, request, monotonic_ns())
        try:
            response = await self._handle(request)
        except BaseException as exc:
            exchange.broke(exc)
            raise
        if type(response) is not self.plain or exchange.first_ns:
            exchange.answer(response)
            return response
        try:
            exchange.unhook("write_headers")
            await response.prepare(request)
            exchange.first_ns, exchange.status = monotonic_ns(), response.status
            await response.write_eof()
        except BaseException as exc:
            exchange.broke_sending(response, exc)
            if not isinstance(exc, Exception):
                raise
        else:
            exchange.record()
        return response

    def unusual(self, request: web.Request, started_ns: int) -> Request:
        """Return a request that the compiled twin leaves to this one."""
        return Request(self, request, started_ns)

    def refused(self, request: web.Request) -> None:
        """Record a request that the server's parser refused, when its answer is sent."""
        if is_on():
            _Refused(self, request, monotonic_ns())

    @property
    def unmatched(self) -> Labels:
        """The labels of requests that no route answers."""
        return self._labels.unmatched


class Request(RequestRecord):
    """A request and its response.

    A plain response is sent by the timer, in the coroutine that waited for the handler;
    aiohttp, which does so when it gets it, finds that sent. Of any other the `prepare` and
    `write_eof`, which may do more than once what they do, are wrapped on the response
    itself, so the request ends when the last of them does. What the head of the response
    is written by is wrapped on the request's writer, since a handler may stream a
    response before it returns it.
    """

    _response: web.StreamResponse | None = None

    def __init__(self, timer: RequestTimer, request: web.Request, started_ns: int) -> None:
        self._timer = timer
        self._request = request
        self._writer = writer = request.writer
        writer.write_headers = self.begin  # type: ignore[method-assign, assignment]
        self.started_ns = started_ns

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
            self.complete()
        else:
            self._response = response

    def broke(self, exc: BaseException) -> None:
        """Be told what the handler raised."""
        if isinstance(exc, web.HTTPException):
            self.answer(exc)
        else:
            self.fail(exc, disconnected=_is_gone(self._request))

    def broke_sending(self, response: web.Response, exc: BaseException) -> None:
        """Be told what was raised amid a response that the timer sent."""
        self.fail(exc, disconnected=True)
        if isinstance(exc, Exception):
            # For aiohttp to meet it where it would have.
            response.prepare = partial(_raise, exc)  # type: ignore[method-assign]

    def fail(self, exc: BaseException, *, disconnected: bool) -> None:
        """End by an exception, which aiohttp answers by an error if there is a client."""
        if isinstance(exc, CancelledError) or (disconnected and isinstance(exc, ConnectionError)):
            self.disconnected = True
        else:
            self.status = _FAILED
        self.complete()

    def take_head(self, status: int, headers: CIMultiDict[str], first_ns: int) -> None:
        """Note what the response's head says, and when it was written."""
        self.first_ns = first_ns
        self.status = status
        if status == _UPGRADED:
            self.kind = WEBSOCKET
        elif headers.get(hdrs.CONTENT_TYPE, "").startswith(_EVENT_STREAM):
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

    def begin(self, status_line: str, headers: CIMultiDict[str]) -> Awaitable[None]:
        """Note that the head is written, and write it."""
        try:
            status = int(status_line[_STATUS])
        except ValueError:  # a handler that writes a head of its own
            status = 0
        self.take_head(status, headers, monotonic_ns())
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
        self.complete()

    async def _timed_finish(self, *args: Any, **kwargs: Any) -> None:
        await self._finish(*args, **kwargs)
        self.complete()

    def complete(self) -> None:
        """Leave all as it was, and record, once."""
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


class _Refused(Request):
    """A request that the server answers itself, in flight only as long as that takes."""

    def record(self) -> None:
        """Record it."""
        self.end(self._timer.unmatched, self._timer.with_ttfb)

    async def _timed_finish(self, *args: Any, **kwargs: Any) -> None:
        try:
            await self._finish(*args, **kwargs)
        finally:
            self.complete()


def _is_gone(request: web.Request) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()
