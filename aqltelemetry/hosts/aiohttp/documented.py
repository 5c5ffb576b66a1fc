"""Records requests to an aiohttp application by the documented interface alone.

By a middleware around all others, a signal before each response, and the end of the task
that aiohttp makes for each request, which sends the response. That costs more than what
`aiohttp_requests` does, and tells less: what a handler does after its response counts as
the request's time; requests that the router, the parser or an `Expect` header end are not
recorded; and of a client that goes away while the response is sent, only what has closed
the connection is seen.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiohttp import hdrs, typedefs, web

from aqltelemetry.hosts.aiohttp.labels import RouteLabels
from aqltelemetry.hosts.labels import EVENTS, WEBSOCKET
from aqltelemetry.hosts.request_record import InFlight, RequestRecord
from aqltelemetry.recording.recorder import is_on
from aqltelemetry.system.clock import monotonic_ns

_FAILED = 500
_UPGRADED = 101
_NAME = "aqltelemetry.request"
# Newer versions warn of a text as a key.
_KEY: Any = web.RequestKey(_NAME, RequestRecord) if hasattr(web, "RequestKey") else _NAME


class DocumentedTimer:
    """Records the requests of an application."""

    def __init__(self, labels: RouteLabels, in_flight: InFlight, *, with_ttfb: bool) -> None:
        self.labels = labels
        self.in_flight = in_flight
        self.with_ttfb = with_ttfb

    def add_to(self, app: web.Application) -> None:
        """Add what records requests to an application, before it is started."""
        # A bound method has no attributes, by one of which aiohttp knows a middleware.
        app.middlewares.insert(0, web.middleware(partial(self._handle)))
        app.on_response_prepare.append(_begin_response)

    async def _handle(self, request: web.Request, handler: typedefs.Handler) -> web.StreamResponse:
        # A middleware may handle one request by several handlers.
        if not is_on() or _KEY in request:
            return await handler(request)
        self.in_flight.begin()
        exchange = request[_KEY] = _Request(self, request)
        try:
            response: Any = await handler(request)
        except web.HTTPException as exc:
            exchange.wait(exc.status, exc)
            raise
        except BaseException as exc:
            exchange.fail(exc)
            raise
        exchange.answer(response)
        return response  # type: ignore[no-any-return]


class _Request(RequestRecord):
    """A request and its response."""

    _response: object = None
    """What the handler returned or raised."""

    def __init__(self, timer: DocumentedTimer, request: web.Request) -> None:
        super().__init__()
        self._timer = timer
        self._request: Any = request

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

    def answer(self, response: object) -> None:
        """Wait until what the handler returned is sent."""
        if isinstance(response, web.StreamResponse):
            self.wait(response.status, response)
        else:  # a handler's mistake, which aiohttp answers by an error
            self.status = _FAILED
            self.record()

    def wait(self, status: int, response: object) -> None:
        """Wait until the response is sent, which is when the request's task has ended."""
        self._response = response
        if not self.first_ns:
            self.status = status
        task = asyncio.current_task()
        # Of a connection that has one task for all its requests, this is the end.
        if task is None or task is self._request.task:
            self.record()
        else:
            task.add_done_callback(self._end)

    def fail(self, exc: BaseException) -> None:
        """Note what was raised, which aiohttp answers by an error if there is a client."""
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
        # The request refers to this, and both would be left for the garbage collector.
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
        # The server itself closes the others after their response.
        return transport.is_closing() and bool(getattr(self._response, "keep_alive", False))


async def _begin_response(request: web.Request, response: web.StreamResponse) -> None:
    exchange = request.get(_KEY)
    if exchange is not None:
        exchange.begin(response)
