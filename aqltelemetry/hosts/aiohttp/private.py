"""The narrow adapter of aiohttp: all that is used of it beyond its documented interface.

`TESTED` lists the minor versions that it was tested on. On any other version, or where a part
is missing, requests are recorded by the documented interface alone; see `documented`.

An application's handling of a request is replaced, around all middlewares. A middleware would
cost several times as much, since aiohttp takes a longer way through a request with one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import signature
from typing import Any, Protocol

import aiohttp
from aiohttp import web, web_protocol
from aiohttp.http_writer import StreamWriter

from aqltelemetry.system.extensions import load

TESTED = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14))
"""The minor versions of aiohttp whose private parts are known."""
COMPILED_FROM = (3, 11)
"""The first of them that logs each request's end, which the compiled twin needs."""

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""An application's method that handles a request."""


class Timer(Protocol):
    """Handles the requests of an application, as `request_record.RequestTimer` does."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handle a request."""

    def refused(self, request: web.Request) -> None:
        """Record a request that the server's parser refused."""


NEEDED: tuple[tuple[object, str], ...] = (
    (web.Application, "_handle"),
    (web.Application, "_make_request"),
    (web.BaseRequest, "writer"),
    (web.BaseRequest, "transport"),
    (StreamWriter, "write_headers"),
    (StreamWriter, "write_eof"),
    (StreamWriter, "__dict__"),  # two methods of its objects are replaced
    (web.StreamResponse, "prepare"),
    (web.StreamResponse, "write_eof"),
    (web.StreamResponse, "__dict__"),
)
"""The attributes that this module uses."""
NEEDED_BY_COMPILED: tuple[tuple[object, str], ...] = (
    (web.Application, "_make_handler"),
    (web.Application, "_on_response_prepare"),
    (web.BaseRequest, "_message"),
    (web.BaseRequest, "_method"),
    (web.BaseRequest, "_protocol"),
    (web.Request, "_match_info"),
    (web.Request, "_prepare_hook"),
    (web.RequestHandler, "log_access"),
    (web.RequestHandler, "force_close"),
    (web.StreamResponse, "_eof_sent"),
    (web.StreamResponse, "_status"),
    (web.UrlMappingMatchInfo, "_apps"),
    (web.UrlMappingMatchInfo, "_route"),
)
"""The attributes that the compiled twin of `request_record` uses in addition."""
REFUSED = getattr(web_protocol, "ERROR", None)
"""The message of a request that the server's parser refused."""


def is_tested() -> bool:
    """Return whether aiohttp is of a tested version, and has all that is needed."""
    return _minor() in TESTED and all(_has(*each) for each in NEEDED)


def is_tested_compiled() -> bool:
    """Return whether aiohttp also has what the compiled twin needs."""
    return (
        is_tested()
        and _minor() >= COMPILED_FROM
        and all(_has(*each) for each in NEEDED_BY_COMPILED)
        and "_cls" in signature(web.Application._make_request).parameters  # noqa: SLF001
    )


def version_note() -> str | None:
    """Return a note on an untested version of aiohttp; None if the version is a tested one."""
    if is_tested():
        return None
    return (
        f"{aiohttp.__version__} is not known: its requests are recorded by its documented "
        "interface, which takes more time"
    )


def _minor() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in aiohttp.__version__.split(".")[:2])
    except ValueError:
        return ()


def _has(owner: object, name: str) -> bool:
    """Return whether objects of a class have an attribute."""
    if hasattr(owner, name):
        return True
    declared = {*getattr(owner, "ATTRS", ()), *getattr(owner, "__slots__", ())}
    return name in declared or (owner is web.StreamResponse and hasattr(web.Response(), name))


def handler_of(app: web.Application) -> Handle:
    """Return the method by which an application handles its requests."""
    return app._handle  # noqa: SLF001


def intercept(app: web.Application, timer: Timer, handle_by: Handle | None = None) -> bool:
    """Make a timer handle an application's requests; return False if that is not possible.

    `handle_by` is what handles them instead of `timer.handle` and the compiled twin.
    """
    make, handle = app._make_request, app._handle  # noqa: SLF001
    if handle_by is None and compiled is not None and is_tested_compiled():
        usual = compiled.RequestTimer(timer, make, handle, TimedRequest, TimedProtocol)
        serve = partial(_timed_server, app._make_handler)  # noqa: SLF001
        if _replace(app, _make_request=usual.make, _make_handler=serve, _handle=usual.handle):
            return True
    return _replace(
        app, _make_request=partial(_make, timer, make), _handle=handle_by or timer.handle
    )


def _replace(app: web.Application, **attributes: Any) -> bool:
    """Replace attributes of an application: all of them, or none and return False."""
    replaced: list[str] = []
    try:
        for name, value in attributes.items():
            # In asyncio's debug mode, the application's `__setattr__` warns.
            object.__setattr__(app, name, value)
            replaced.append(name)
    except (AttributeError, TypeError):
        for name in replaced:
            object.__delattr__(app, name)
        return False
    return True


def _make(timer: Timer, make: Callable[..., web.Request], *arguments: Any) -> web.Request:
    request = make(*arguments)
    if arguments[0] is REFUSED:
        timer.refused(request)
    return request


def hook_head(request: web.Request, write_headers: Callable[..., Any]) -> Any:
    """Make a request's writer write heads by `write_headers`; return the writer."""
    writer: Any = request.writer
    writer.write_headers = write_headers
    return writer


def hook_end(writer: Any, write_eof: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """Make a writer end responses by `write_eof`; return its own method."""
    own: Callable[..., Awaitable[None]] = writer.write_eof
    writer.write_eof = write_eof
    return own


def unhook(writer: Any, name: str) -> None:
    """Restore a method of a writer."""
    # Not by its `__dict__`: an object is slower once its `__dict__` was read.
    try:
        delattr(writer, name)
    except AttributeError:
        return


compiled: Any = load("aqltelemetry.hosts.aiohttp.request_record") if is_tested_compiled() else None
"""The compiled twin of `request_record`, if it can be used."""

if compiled is not None:

    class TimedRequest(web.Request):
        """A request that reports to the compiled twin when a response begins."""

        __slots__ = ("_handling",)
        ATTRS = web.Request.ATTRS | {"_handling"}
        prepare_hook_untimed = web.Request._prepare_hook  # noqa: SLF001
        _prepare_hook = compiled.prepare_hook

        def clone(self, **changes: Any) -> web.Request:
            """Return a changed copy, which reports as well."""
            copy = super().clone(**changes)
            object.__setattr__(copy, "_handling", getattr(self, "_handling", None))
            return copy

    # Its name in logs.
    TimedRequest.__name__ = TimedRequest.__qualname__ = web.Request.__name__

    class TimedProtocol(web.RequestHandler):
        """A connection that reports to the compiled twin when a response was sent or failed."""

        __slots__ = ("_handling",)
        log_untimed = web.RequestHandler.log_access
        log_access = compiled.log_access
        force_close_untimed = web.RequestHandler.force_close
        force_close = compiled.force_close

    compiled.connect(TimedRequest, TimedProtocol)

    class TimedServer(web.Server):
        """A server of these connections."""

        def __call__(self) -> web.RequestHandler:
            """Return a connection's protocol: aiohttp's own for options that need it."""
            try:
                return TimedProtocol(self, loop=self._loop, **self._kwargs)
            except TypeError:
                return super().__call__()

    def _timed_server(make_handler: Callable[..., web.Server], **options: Any) -> web.Server:
        """Return the server that an application makes, with these connections."""
        server = make_handler(**options)
        if type(server) is web.Server:
            server.__class__ = TimedServer
        return server
