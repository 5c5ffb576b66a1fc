"""Classes derived from aiohttp's, by which the compiled twin hears how a response gets on.

Their methods have the signatures of aiohttp's, and do as those when they have told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from aqltelemetry.hosts.aiohttp import _requests as compiled


class TimedRequest(web.Request):
    """A request that tells the compiled twin when a response begins."""

    __slots__ = ("_handling",)
    ATTRS = web.Request.ATTRS | {"_handling"}
    prepare_hook_untimed = web.Request._prepare_hook  # noqa: SLF001
    _prepare_hook = compiled.prepare_hook  # type: ignore[assignment]

    def clone(self, **changes: Any) -> web.Request:
        """Return a changed copy, which tells as well."""
        copy = super().clone(**changes)
        object.__setattr__(copy, "_handling", getattr(self, "_handling", None))
        return copy


# As it shows itself in logs.
TimedRequest.__name__ = TimedRequest.__qualname__ = web.Request.__name__


class TimedProtocol(web.RequestHandler):
    """A connection that tells the compiled twin when a response was sent, or failed."""

    __slots__ = ("_handling",)
    log_untimed = web.RequestHandler.log_access
    log_access = compiled.log_access  # type: ignore[assignment]
    force_close_untimed = web.RequestHandler.force_close
    force_close = compiled.force_close


compiled.connect(TimedRequest, TimedProtocol)


class TimedServer(web.Server):
    """A server of connections of this kind."""

    def __call__(self) -> web.RequestHandler:
        """Make a connection's protocol; with options it can't have, one that tells nothing."""
        try:
            return TimedProtocol(self, loop=self._loop, **self._kwargs)
        except TypeError:
            return super().__call__()


def timed_server(make_handler: Callable[..., web.Server], **options: Any) -> web.Server:
    """Return the server that an application makes, with connections that tell."""
    server = make_handler(**options)
    if type(server) is web.Server:
        server.__class__ = TimedServer
    return server
