"""Records the requests of an ASGI application, by a wrapper around it.

The wrapper reads no body and creates no task for a request. It sets a context variable only
where a WSGI middleware exists in the process, which finds in it the ASGI request that its own
request is a part of.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, Unpack

from aqltelemetry.errors import OptionError
from aqltelemetry.hosts.asgi.frameworks import observe
from aqltelemetry.hosts.asgi.lifecycle import Lifecycle, is_in_asgi_call
from aqltelemetry.hosts.asgi.request_record import (
    Message,
    Receive,
    Scope,
    ScopeLabels,
    Send,
    Template,
)
from aqltelemetry.hosts.asgi.routes import route_templates, running_label
from aqltelemetry.hosts.kinds import ASGI, check_kind
from aqltelemetry.hosts.lifecycle import HostRecording
from aqltelemetry.hosts.templates import chosen_template
from aqltelemetry.hosts.tracebacks import keep_first_frame
from aqltelemetry.settings import Options
from aqltelemetry.stalls.naming.requests import name_requests
from aqltelemetry.system.extensions import choose

if TYPE_CHECKING:
    from aqltelemetry.hosts.asgi.request_record import AsgiRequests
else:
    AsgiRequests = choose("aqltelemetry.hosts.asgi.request_record").AsgiRequests

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_LAST_MESSAGES = frozenset(
    {"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"}
)


class TelemetryMiddleware:
    """Record each request of an ASGI application.

        app = TelemetryMiddleware(app, "_monitoring")

    Parameters:
        app: The ASGI application to wrap; `TelemetryMiddleware` is one too.
        monitoring_dir: The directory for the CSV files; by default that of the environment
            variable AQLTELEMETRY_DIR, else `_monitoring`.
        with_ttfb: Whether to record the time to the first byte of each response.
        template: Names the route of a request where the framework's route is unknown or not the
            one you want: a function of the ASGI scope, called when the request has ended, or its
            name as `"module:function"`. Where it returns None or "", the framework's route is
            used. An exception in it is logged once, and the request is recorded as `unmatched`.
            By default the environment variable AQLTELEMETRY_TEMPLATE may name one.
        **options: Those of `aqltelemetry.settings.Settings`, such as `keep_bytes="2g"`.

    Recorded, in seconds, where `/users/{id}` is the template of the route that matched:

    - `/users/{id} [GET]`: from the call of the application until the last part of the
      response is sent
    - `/users/{id} [GET] ttfb`: the time to the first part of the body,
      unless `with_ttfb=False`
    - `/users/{id} [GET] 4xx`, `... 5xx`, `... disconnect`: the total time once more, if the
      response has such a status, or if the client went away or the request was cancelled
    - `/ws [GET] websocket`: the whole life of a websocket; its `... ttfb` ends with the handshake
    - `/events [GET] events`: the whole life of a `text/event-stream`
    - `unmatched`: instead of template and method, where no route matches
    - `other [GET]`: routes beyond the first 1,000 of a process
    - `/users/{id} [OTHER]`: methods other than the nine of HTTP

    The number of requests in progress is sampled as `requests in flight`.

    The recording starts and stops with the application's lifespan, or starts with its first
    request where the server or the application has no lifespan. It runs on the event loop of
    asyncio; on trio and other backends it has its own thread. If a monitor runs in the process
    already, that one records the requests. If the recording can't be started, one line is logged
    and the application is served unrecorded. What the application raises passes through.

    Where a framework makes its middleware only when it is called first, as Starlette does, a wrong
    option is not raised: the start of the lifespan fails, which stops the server.

    Raises:
        OptionError: For a wrong directory, template or option.
        WrongApplicationError: For a WSGI or aiohttp application.
    """

    def __init__(
        self,
        app: Application,
        monitoring_dir: str | os.PathLike[str] | None = None,
        *,
        with_ttfb: bool = True,
        template: Template | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_kind(app, ASGI)
        refused = None
        try:
            recording = HostRecording(monitoring_dir, options)
            template = chosen_template(template)
        except OptionError as exc:
            # Starlette makes its middleware in the first call. An exception there would mean that
            # the application has no lifespan, and later that each request fails.
            if not is_in_asgi_call():
                raise
            refused, template, recording = exc, None, HostRecording()
        self._app = app
        observe(app)
        for argument in ("scope", "request"):
            name_requests(argument, running_label)
        self._requests = AsgiRequests(
            ScopeLabels(template), recording.in_flight, with_ttfb, recording.with_cpu_time
        )
        recording.routes = partial(route_templates, app)
        self._lifecycle = Lifecycle(recording, refused)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and record the request or websocket."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if not self._lifecycle.is_ready:
            await self._lifecycle.get_ready()
        record = self._requests.begin(scope, receive, send)
        if record is None:
            await self._app(scope, receive, send)
            return
        try:
            meter, handled = record.meter, self._app(scope, record.receive, record.send)
            await (handled if meter is None else meter.run(handled))
        except BaseException as exc:
            record.fail(exc)
            keep_first_frame(exc)
            raise
        finally:
            record.leave()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_received = False
        if (refused := self._lifecycle.refused) is not None:
            # The server shows the message, and stops before it serves.
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(refused)})
            raise refused

        async def watched_receive() -> Message:
            nonlocal has_received
            has_received = True
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._lifecycle.get_ready()
            return message

        async def watched_send(message: Message) -> None:
            if message["type"] in _LAST_MESSAGES:
                await self._lifecycle.stop()
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        except Exception:
            if has_received:
                raise
            # An application without a lifespan, such as Django's; the recording still has one.
            for event in ("startup", "shutdown"):
                await watched_receive()
                await watched_send({"type": f"lifespan.{event}.complete"})
