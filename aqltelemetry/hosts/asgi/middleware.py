"""The ASGI host: `app = TelemetryMiddleware(app, "_monitoring")`.

For Starlette, FastAPI, Litestar, and any other ASGI application. It wraps the
application's callable: it reads no body and makes no task for a request. It sets a
context variable only where a WSGI middleware exists in the process: that one then
finds in it the ASGI request that its own request is a part of.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias, Unpack

from aqltelemetry.errors import OptionError
from aqltelemetry.hosts.asgi.connections import Message, Receive, Scope, ScopeLabels, Send, Template
from aqltelemetry.hosts.asgi.frameworks import observe
from aqltelemetry.hosts.asgi.lifecycle import Lifecycle, is_in_asgi_call
from aqltelemetry.hosts.kinds import ASGI, check_kind
from aqltelemetry.hosts.lifecycle import HostRecording
from aqltelemetry.hosts.templates import chosen_template
from aqltelemetry.hosts.tracebacks import keep_first_frame
from aqltelemetry.settings import Options
from aqltelemetry.system.extensions import HAVE_EXTENSIONS

if TYPE_CHECKING or not HAVE_EXTENSIONS:
    from aqltelemetry.hosts.asgi.connections import Connections
else:
    from aqltelemetry.hosts.asgi._connections import Connections

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_LAST_MESSAGES = frozenset(
    {"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"}
)


class TelemetryMiddleware:
    """Records each request of an ASGI application, by a monitor of its own.

    The monitor starts and stops with the application's lifespan, or starts with
    the first request where the server or the application has none. Where asyncio does
    not run the application, but trio or another backend, it has a thread of its own. If
    another monitor runs in the process, that one records. If the recording can't be
    started, an error is logged and the application runs unrecorded. For labels see
    `aqltelemetry.hosts.labels`; `with_ttfb` says whether the time to the first byte is
    recorded too.

    `template` names the route of a connection where the framework's route is unknown or
    not what is wanted: a function of its scope, called when it has ended, or the name of
    one, `module:function`. Where that returns None or "", the framework's route is
    used; what it raises is logged once, and the request is unmatched. Without it, the
    environment variable AQLTELEMETRY_TEMPLATE may name one.

    Raises OptionError, and WrongApplicationError for a WSGI or aiohttp application. Where
    the middleware is made only when the application is called, as Starlette does, a wrong
    option makes the lifespan's start fail instead, which stops the server.
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
            # Starlette makes its middleware in the first call, where what is raised would be
            # taken for an application without a lifespan, and then for an error of each request.
            if not is_in_asgi_call():
                raise
            refused, template, recording = exc, None, HostRecording()
        self._app = app
        observe(app)
        self._connections = Connections(ScopeLabels(template), recording.in_flight, with_ttfb)
        self._lifecycle = Lifecycle(recording, refused)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection; whatever the application raises passes through."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if not self._lifecycle.is_ready:
            await self._lifecycle.get_ready()
        connection = self._connections.begin(scope, receive, send)
        if connection is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, connection.receive, connection.send)
        except BaseException as exc:
            connection.fail(exc)
            keep_first_frame(exc)
            raise
        finally:
            connection.leave()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        heard = False
        if (refused := self._lifecycle.refused) is not None:
            # The server stops, before it serves, and shows the message.
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(refused)})
            raise refused

        async def watched_receive() -> Message:
            nonlocal heard
            heard = True
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
            if heard:
                raise
            # It knows no lifespan, as Django's; the recording has one all the same.
            for event in ("startup", "shutdown"):
                await watched_receive()
                await watched_send({"type": f"lifespan.{event}.complete"})
