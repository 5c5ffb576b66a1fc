"""Answers the requests of browsers: the page, the report, strips, and events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from http import HTTPStatus

from aiohttp import web

from aqltelemetry.errors import OptionError, TelemetryError
from aqltelemetry.views.html import content_security_policy, render_live_html
from aqltelemetry.views.serve import queries
from aqltelemetry.views.serve.access import Access, middleware, protect
from aqltelemetry.views.serve.events import RETRY, Subscribers, TooManyClientsError, event
from aqltelemetry.views.serve.recording import Recording
from aqltelemetry.views.serve.refresher import INTERVAL_S, refresh_while_looked_at

_JSON = "application/json"
_EVENT_STREAM = "text/event-stream"
_STALLED_S = 30.0


class Views:
    """The application that shows a recording.

    Args:
        recording: What it shows; it is closed with the application.
        access: Who may see it.
        title: The title of the page until its data are there.
        subscribers: The browsers to notify of changes.
        interval_s: The shortest time in seconds between two refreshes.
        is_polled: Send one event to each request for events and end the response. The browser asks
            again after a second. No connection stays open then, so that the server of a service
            can end at any time, and no middleware has to pass on a stream.
        stalled_s: The time in seconds after which a browser that does not read is disconnected.
    """

    def __init__(  # noqa: PLR0913 - most have a default
        self,
        recording: Recording,
        access: Access,
        title: str,
        subscribers: Subscribers | None = None,
        interval_s: float = INTERVAL_S,
        *,
        is_polled: bool = False,
        stalled_s: float = _STALLED_S,
    ) -> None:
        self._recording = recording
        self._title = title
        self._subscribers = subscribers or Subscribers()
        self._interval_s = interval_s
        self._stalled_s = stalled_s
        self._is_polled = is_polled
        self.application = web.Application(middlewares=[middleware(access)])
        self.application.add_routes(
            [
                web.get("/", self._get_page),
                web.get("/report.json", self._get_report),
                web.get("/strips", self._get_strips),
                web.get("/events", self._get_events, allow_head=False),
            ]
        )
        self.application.cleanup_ctx.append(self._refreshing)
        self.application.on_shutdown.append(self._end_events)

    async def _refreshing(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(
            refresh_while_looked_at(self._recording, self._subscribers, self._interval_s)
        )
        yield
        task.cancel()
        await asyncio.wait([task])
        self._recording.close()

    async def _end_events(self, _app: web.Application) -> None:
        self._subscribers.close()

    async def _get_page(self, _request: web.Request) -> web.Response:
        policy = f"{content_security_policy(live=True)}; frame-ancestors 'none'"
        text = render_live_html(self._title)
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _get_report(self, request: web.Request) -> web.Response:
        try:
            top = queries.top(request.query)
        except OptionError as exc:
            return _error(HTTPStatus.BAD_REQUEST, exc)
        return await _made(self._recording.report(top))

    async def _get_strips(self, request: web.Request) -> web.Response:
        try:
            window = queries.window(request.query)
        except OptionError as exc:
            return _error(HTTPStatus.BAD_REQUEST, exc)
        return await _made(self._recording.strips(window))

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        if self._is_polled:
            return await self._send_event()
        try:
            with self._subscribers.subscribed():
                return await self._send_events(request)
        except TooManyClientsError as exc:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, exc)

    async def _send_event(self) -> web.Response:
        try:
            state = await asyncio.wrap_future(self._recording.state())
            body = event("changed", state.number, state._asdict())
        except (TelemetryError, OSError) as exc:
            body = event("changed", -1, {"error": str(exc)})
        return web.Response(body=RETRY + body, content_type=_EVENT_STREAM)

    async def _send_events(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": _EVENT_STREAM, "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        protect(response)
        await response.prepare(request)
        async for message in self._subscribers.messages():
            try:
                async with asyncio.timeout(self._stalled_s):
                    await response.write(message)
            except (TimeoutError, ConnectionError):
                if request.transport is not None:
                    request.transport.abort()
                break
        return response


async def _made(made: Future[bytes]) -> web.Response:
    try:
        body = await asyncio.wrap_future(made)
    except (TelemetryError, OSError) as exc:
        return _error(HTTPStatus.SERVICE_UNAVAILABLE, exc)
    return web.Response(body=body, content_type=_JSON)


def _error(status: HTTPStatus, exc: Exception) -> web.Response:
    return web.json_response({"error": str(exc)}, status=status)
