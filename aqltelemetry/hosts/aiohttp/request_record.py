"""Times a request to an aiohttp application, by the private parts of a tested version.

Its compiled twin, `_request_record.pyx`, handles the usual request, whose handler returns a plain
response, and leaves all others to this module.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

from aiohttp import hdrs, web
from multidict import CIMultiDict

from aqltelemetry.hosts.aiohttp import private
from aqltelemetry.hosts.aiohttp.documented import DocumentedTimer
from aqltelemetry.hosts.aiohttp.labels import RouteLabels, running_label
from aqltelemetry.hosts.labels import EVENTS, WEBSOCKET, Labels
from aqltelemetry.hosts.request_record import InFlight, RequestRecord
from aqltelemetry.recording.cpu_time import StepMeter
from aqltelemetry.recording.in_flight import NO_HANDLE, claim, release
from aqltelemetry.recording.last_words import say_exit
from aqltelemetry.recording.recorder import is_on
from aqltelemetry.stalls.naming.requests import name_requests
from aqltelemetry.system.clock import monotonic_ns

_T = TypeVar("_T")
_FAILED = 500
_UPGRADED = 101
_STATUS = slice(9, 12)  # as in "HTTP/1.1 200 OK"
_EVENT_STREAM = "text/event-stream"


def time_requests(
    app: web.Application,
    in_flight: InFlight,
    *,
    with_ttfb: bool,
    template: Callable[[web.Request], str | None] | None = None,
    with_cpu_time: bool = False,
) -> None:
    """Record each request of an application; call it before the application starts."""
    labels = RouteLabels(template)
    name_requests("request", running_label)
    if private.is_tested():
        handle = private.handler_of(app)
        timer = RequestTimer(handle, in_flight, with_ttfb=with_ttfb, labels=labels)
        # The compiled twin measures no CPU time.
        if private.intercept(app, timer, timer.measure if with_cpu_time else None):
            return
    DocumentedTimer(labels, in_flight, with_ttfb=with_ttfb, with_cpu_time=with_cpu_time).add_to(app)


class RequestTimer:
    """Handles the requests of an application, and records each."""

    plain: type[web.Response] = web.Response
    """The class of responses that the timer sends itself, whole, so never as a stream."""
    refused_message = private.REFUSED
    """The message of requests that aiohttp answers without the application."""

    def __init__(
        self,
        handle: private.Handle,
        in_flight: InFlight,
        *,
        with_ttfb: bool,
        labels: RouteLabels | None = None,
    ) -> None:
        self._handle = handle
        self.in_flight = in_flight
        self.with_ttfb = with_ttfb
        self._labels = labels or RouteLabels()
        # Bound once, since each request needs them.
        self.labels, self.knows = self._labels.of, self._labels.knows

    async def measure(self, request: web.Request) -> web.StreamResponse:
        """Handle a request, and record its CPU time too."""
        meter = StepMeter()
        return await meter.run(self.handle(request, meter))

    async def handle(
        self, request: web.Request, meter: StepMeter | None = None
    ) -> web.StreamResponse:
        """Handle a request; what the application raises passes through."""
        if not is_on():
            return await self._handle(request)
        self.in_flight.begin()
        started_ns = monotonic_ns()
        slot = claim(request.method, request.raw_path, started_ns)
        record = AiohttpRequestRecord(self, request, started_ns, slot)
        if meter is not None:
            record.meter = meter
        try:
            response = await self._handle(request)
        except BaseException as exc:
            record.handler_raised(exc)
            raise
        if type(response) is not self.plain or record.first_ns:
            record.handler_returned(response)
            return response
        try:
            private.unhook(record.writer, "write_headers")
            await response.prepare(request)
            record.first_ns, record.status = monotonic_ns(), response.status
            await response.write_eof()
        except BaseException as exc:
            record.sending_raised(response, exc)
            if not isinstance(exc, Exception):
                raise
        else:
            record.record()
        return response

    def begin(self, request: web.Request, started_ns: int, slot: int) -> AiohttpRequestRecord:
        """Return the record of a request that the compiled twin leaves to this module."""
        return AiohttpRequestRecord(self, request, started_ns, slot)

    def refused(self, request: web.Request) -> None:
        """Record a request that the server's parser refused, once its response is sent."""
        if is_on():
            _RefusedRequestRecord(self, request, monotonic_ns())

    @property
    def unmatched(self) -> Labels:
        """The labels of requests without a route."""
        return self._labels.unmatched


class AiohttpRequestRecord(RequestRecord):
    """One request to an aiohttp application and its response.

    The timer sends a plain response in the coroutine that called the handler; aiohttp, which
    would send it next, finds it sent. The methods `prepare` and `write_eof` of any other response
    are wrapped on the object; they may be called several times, so the request ends with the
    last call. The method that writes the head is wrapped on the request's writer, since a
    handler may stream a response before it returns it.
    """

    _response: web.StreamResponse | None = None

    def __init__(
        self, timer: RequestTimer, request: web.Request, started_ns: int, slot: int = NO_HANDLE
    ) -> None:
        self._timer = timer
        self._request = request
        self.writer = private.hook_head(request, self.begin)
        self.started_ns = started_ns
        self._slot = slot

    def handler_returned(self, response: web.StreamResponse) -> None:
        """Wait until the response that the handler returned is sent."""
        if self.ended:
            return
        try:
            self._prepare, self._write_eof = response.prepare, response.write_eof
            response.prepare = self._timed_prepare  # type: ignore[method-assign]
            response.write_eof = self._timed_write_eof  # type: ignore[method-assign]
        except AttributeError:  # no response: aiohttp sends an error instead
            self.status = _FAILED
            self.complete()
        else:
            self._response = response

    def handler_raised(self, exc: BaseException) -> None:
        """Note an exception of the handler; an HTTPException is a response."""
        if isinstance(exc, web.HTTPException):
            self.handler_returned(exc)
        else:
            self.fail(exc, disconnected=_is_gone(self._request))

    def sending_raised(self, response: web.Response, exc: BaseException) -> None:
        """Note an exception raised while the timer sent the response."""
        self.fail(exc, disconnected=True)
        if isinstance(exc, Exception):
            # aiohttp receives it where it would have been raised.
            response.prepare = partial(_raise, exc)  # type: ignore[method-assign]

    def fail(self, exc: BaseException, *, disconnected: bool) -> None:
        """End by an exception; aiohttp sends an error if the client is still there."""
        say_exit(exc)
        if isinstance(exc, CancelledError) or (disconnected and isinstance(exc, ConnectionError)):
            self.disconnected = True
        else:
            self.status = _FAILED
        self.complete()

    def take_head(self, status: int, headers: CIMultiDict[str], first_ns: int) -> None:
        """Note the head of the response, and when it was written."""
        self.first_ns = first_ns
        self.status = status
        if status == _UPGRADED:
            self.kind = WEBSOCKET
        elif headers.get(hdrs.CONTENT_TYPE, "").startswith(_EVENT_STREAM):
            self.kind = EVENTS

    def record(self) -> None:
        """Record the request, which has ended."""
        timer = self._timer
        self.end(timer.labels(self._request, self.kind), timer.with_ttfb)
        timer.in_flight.end()
        release(self._slot)

    def begin(self, status_line: str, headers: CIMultiDict[str]) -> Awaitable[None]:
        """Write the head of the response, and note when."""
        try:
            status = int(status_line[_STATUS])
        except ValueError:  # a handler that writes its own head
            status = 0
        self.take_head(status, headers, monotonic_ns())
        writer = self.writer
        private.unhook(writer, "write_headers")
        if self._response is None:
            # The handler is still running; it may end the response and go on.
            self._finish = private.hook_end(writer, self._timed_finish)
        head: Awaitable[None] = writer.write_headers(status_line, headers)
        return head

    # A ConnectionError while a response is sent means that the client has gone, as for aiohttp:
    # the transport of a file may not know it yet.

    async def _timed_prepare(self, request: web.BaseRequest) -> Any:
        try:
            return await self._measured(self._prepare(request))
        except BaseException as exc:
            self.fail(exc, disconnected=True)
            raise

    async def _timed_write_eof(self, *args: Any, **kwargs: Any) -> None:
        try:
            await self._measured(self._write_eof(*args, **kwargs))
        except BaseException as exc:
            self.fail(exc, disconnected=True)
            raise
        self.complete()

    async def _timed_finish(self, *args: Any, **kwargs: Any) -> None:
        await self._measured(self._finish(*args, **kwargs))
        self.complete()

    def _measured(self, awaitable: Awaitable[_T]) -> Awaitable[_T]:
        """Return an awaitable, or, where CPU time is recorded, one that measures it."""
        meter = self.meter
        return meter.run(awaitable) if isinstance(meter, StepMeter) else awaitable

    def complete(self) -> None:
        """Restore all methods, and record the request once."""
        if self.ended:
            return
        private.unhook(self.writer, "write_headers")
        private.unhook(self.writer, "write_eof")
        if self._response is not None:
            wrapped = self._response.__dict__
            wrapped.pop("prepare", None)
            wrapped.pop("write_eof", None)
        self.record()


async def _raise(exc: Exception, _: web.BaseRequest) -> NoReturn:
    raise exc


class _RefusedRequestRecord(AiohttpRequestRecord):
    """A request that the server answers itself; it is not counted as in flight."""

    def record(self) -> None:
        """Record the request, which has no route."""
        self.end(self._timer.unmatched, self._timer.with_ttfb)

    async def _timed_finish(self, *args: Any, **kwargs: Any) -> None:
        try:
            await self._measured(self._finish(*args, **kwargs))
        finally:
            self.complete()


def _is_gone(request: web.Request) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()
