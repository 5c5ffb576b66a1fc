"""Records requests to an aiohttp application by the documented interface alone.

It uses a middleware around all others, a signal before each response, and the end of the task
that aiohttp creates for each request, which sends the response. That costs more than
`request_record` and records less: work of a handler after its response counts as time of the
request; requests that the router, the parser or an `Expect` header end are not recorded; and a
client that goes away while the response is sent is seen only if the connection was closed.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiohttp import hdrs, typedefs, web

from aqltelemetry.hosts.aiohttp.labels import RouteLabels
from aqltelemetry.hosts.labels import EVENTS, WEBSOCKET
from aqltelemetry.hosts.request_record import InFlight, RequestRecord
from aqltelemetry.recording.cpu_time import StepMeter
from aqltelemetry.recording.in_flight import claim, release
from aqltelemetry.recording.last_words import say_exit
from aqltelemetry.recording.recorder import is_on
from aqltelemetry.system.clock import monotonic_ns

_FAILED = 500
_UPGRADED = 101
_NAME = "aqltelemetry.request"
# Newer versions warn about keys that are texts.
_KEY: Any = web.RequestKey(_NAME, RequestRecord) if hasattr(web, "RequestKey") else _NAME


class DocumentedTimer:
    """Records the requests of an application."""

    def __init__(
        self,
        labels: RouteLabels,
        in_flight: InFlight,
        *,
        with_ttfb: bool,
        with_cpu_time: bool = False,
    ) -> None:
        self.labels = labels
        self.in_flight = in_flight
        self.with_ttfb = with_ttfb
        self.with_cpu_time = with_cpu_time

    def add_to(self, app: web.Application) -> None:
        """Record the requests of an application; call it before the application starts."""
        # aiohttp marks a middleware by an attribute, which a bound method can't have.
        app.middlewares.insert(0, web.middleware(partial(self._handle)))
        app.on_response_prepare.append(_begin_response)

    async def _handle(self, request: web.Request, handler: typedefs.Handler) -> web.StreamResponse:
        # A middleware may handle one request by several handlers.
        if not is_on() or _KEY in request:
            return await handler(request)
        self.in_flight.begin()
        record = request[_KEY] = _DocumentedRequestRecord(self, request)
        meter = StepMeter() if self.with_cpu_time else None
        record.meter = meter
        try:
            handled: Any = handler(request)
            response: Any = await (handled if meter is None else meter.run(handled))
        except web.HTTPException as exc:
            record.wait(exc.status, exc)
            raise
        except BaseException as exc:
            record.fail(exc)
            raise
        record.handler_returned(response)
        return response  # type: ignore[no-any-return]


class _DocumentedRequestRecord(RequestRecord):
    """One request to an aiohttp application and its response."""

    _response: object = None
    """The response that the handler returned or raised."""

    def __init__(self, timer: DocumentedTimer, request: web.Request) -> None:
        super().__init__()
        self._timer = timer
        self._request: Any = request
        self._slot = claim(request.method, request.raw_path, self.started_ns)

    def begin(self, response: web.StreamResponse) -> None:
        """Note that the head of the response is about to be sent."""
        if self.first_ns or self.ended:
            return
        self.first_ns = monotonic_ns()
        self.status = response.status
        is_whole = self._response is not None and type(response) is web.Response
        content_type = response.headers.get(hdrs.CONTENT_TYPE, "")
        if response.status == _UPGRADED or isinstance(response, web.WebSocketResponse):
            self.kind = WEBSOCKET
        elif content_type.startswith("text/event-stream") and not is_whole:
            self.kind = EVENTS

    def handler_returned(self, response: object) -> None:
        """Wait until the response that the handler returned is sent."""
        if isinstance(response, web.StreamResponse):
            self.wait(response.status, response)
        else:  # no response: aiohttp sends an error instead
            self.status = _FAILED
            self.record()

    def wait(self, status: int, response: object) -> None:
        """Wait for the end of the request's task, when the response is sent."""
        self._response = response
        if not self.first_ns:
            self.status = status
        task = asyncio.current_task()
        # Where a connection has one task for all its requests, the request ends here.
        if task is None or task is self._request.task:
            self.record()
        else:
            task.add_done_callback(self._end)

    def fail(self, exc: BaseException) -> None:
        """Note an exception; aiohttp sends an error if the client is still there."""
        say_exit(exc)
        transport = self._request.transport
        is_gone = transport is None or transport.is_closing()
        if isinstance(exc, asyncio.CancelledError) or (
            is_gone and isinstance(exc, ConnectionError)
        ):
            self.disconnected = True
        else:
            self.status = _FAILED
        self.record()

    def record(self) -> None:
        """Record the request."""
        timer = self._timer
        self.end(timer.labels.of(self._request, self.kind), timer.with_ttfb)
        timer.in_flight.end()
        release(self._slot)
        # A reference cycle with the request would be left to the garbage collector.
        self._request = self._response = None

    def _end(self, task: asyncio.Task[Any]) -> None:
        exc = None if task.cancelled() else task.exception()
        if task.cancelled() or isinstance(exc, ConnectionError):
            self.disconnected = True
        elif exc is not None:
            self.status = _FAILED
        elif self.kind != WEBSOCKET:
            self.disconnected = self._is_gone()
        self.record()

    def _is_gone(self) -> bool:
        transport = self._request.transport
        if transport is None:
            return True
        # The server closes the other connections itself after their response.
        return transport.is_closing() and bool(getattr(self._response, "keep_alive", False))


async def _begin_response(request: web.Request, response: web.StreamResponse) -> None:
    record = request.get(_KEY)
    if record is not None:
        record.begin(response)
