"""What is used of aiohttp that is not of its documented interface, and where it may be.

`TESTED` lists the minor versions that this was tested on. On another one, or where
something of it is missing, requests are recorded by the documented interface alone; see
`aiohttp_documented`.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import aiohttp
from aiohttp import web, web_protocol
from aiohttp.http_writer import StreamWriter

TESTED = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14))
"""The minor versions of aiohttp whose private parts are known."""
COMPILED_FROM = (3, 11)
"""The first of them that logs each request's end, which the compiled twin needs."""

# An application's way through a request is replaced, and its requests are made by us.
NEEDED: tuple[tuple[object, str], ...] = (
    (web.Application, "_handle"),
    (web.Application, "_make_request"),
    (web.BaseRequest, "writer"),
    (web.BaseRequest, "transport"),
    (StreamWriter, "write_headers"),
    (StreamWriter, "write_eof"),
    (StreamWriter, "__dict__"),  # of its objects two methods are replaced
    (web.StreamResponse, "prepare"),
    (web.StreamResponse, "write_eof"),
    (web.StreamResponse, "__dict__"),
)
# The compiled twin derives from its classes, and reads their attributes.
NEEDED_BY_COMPILED: tuple[tuple[object, str], ...] = (
    (web.Application, "_make_handler"),
    (web.Application, "_on_response_prepare"),
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
REFUSED = getattr(web_protocol, "ERROR", None)
"""The message of a request that the server's parser refused."""


def is_tested() -> bool:
    """Say whether aiohttp is of a version that was tested, with all that is needed of it."""
    return _minor() in TESTED and all(_has(*each) for each in NEEDED)


def is_tested_compiled() -> bool:
    """Say whether it has what the compiled twin needs, too."""
    return (
        is_tested()
        and _minor() >= COMPILED_FROM
        and all(_has(*each) for each in NEEDED_BY_COMPILED)
        and "_cls" in signature(web.Application._make_request).parameters  # noqa: SLF001
    )


def replace(app: web.Application, **attributes: Any) -> bool:
    """Replace private attributes of an application: all, or none and return False."""
    replaced: list[str] = []
    try:
        for name, value in attributes.items():
            # In asyncio's debug mode, its own `__setattr__` warns.
            object.__setattr__(app, name, value)
            replaced.append(name)
    except (AttributeError, TypeError):
        for name in replaced:
            object.__delattr__(app, name)
        return False
    return True


def version_note() -> str | None:
    """Return what to tell of aiohttp's version; None if it is one that was tested."""
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
    """Say whether objects of a class have an attribute."""
    if hasattr(owner, name):
        return True
    declared = {*getattr(owner, "ATTRS", ()), *getattr(owner, "__slots__", ())}
    return name in declared or (owner is web.StreamResponse and hasattr(web.Response(), name))
