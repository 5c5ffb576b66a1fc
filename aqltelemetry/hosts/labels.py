"""The labels under which a host records a request.

`<template> [<METHOD>]` is the time from the request's head to the last byte of the response,
and `... ttfb` the time to its first byte. A request that fails has one more observation:
`... 4xx`, `... 5xx` or `... disconnect`. docs/reference/labels.md lists all labels.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVarTuple

from aqltelemetry.observation import FIRST_BYTE, REQUEST_OUTCOMES, UNMATCHED
from aqltelemetry.system.logs import log

_Ts = TypeVarTuple("_Ts")
OTHER = "other"
"""The template of routes beyond the limit of templates, and the method of unusual methods."""
WEBSOCKET = " websocket"
"""The suffix of the label of a websocket's whole life."""
EVENTS = " events"
"""The suffix of the label of a stream of server-sent events."""
_SUFFIXES = (FIRST_BYTE, *REQUEST_OUTCOMES)
RECORDED_BY = "aqltelemetry.recorded_by"
"""Key in a scope or environment: the middleware that records the request, so that it is
recorded once."""

CURRENT_ASGI_SCOPE: ContextVar[MutableMapping[str, Any] | None] = ContextVar(
    "current_asgi_scope", default=None
)
"""The scope of the current ASGI request.

A request to a WSGI application that is mounted in the ASGI application is a part of it, and not
recorded separately.
"""
WSGI_MIDDLEWARE_EXISTS: list[object] = []
"""Not empty once a WSGI middleware exists; until then the context variable is not set, since each
change of one makes the next look-up of any other slower."""
PLACE = "aqltelemetry.place"
"""Key in a WSGI environment, if the application has mounts: the `mounts.Place` of the request."""
TEMPLATE = "aqltelemetry.template"
"""Key in an ASGI scope: the template of a framework or a mounted application, "" for none."""

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}
)
_MAX_TEMPLATES = 1000


def safe_template(template: Callable[[*_Ts], str | None]) -> Callable[[*_Ts], str | None]:
    """Return a function that calls `template`, never raises, and returns a text or None.

    A request whose template raises is unmatched; each type of exception is logged once.
    """
    logged: set[str] = set()

    def template_or_none(*arguments: *_Ts) -> str | None:
        try:
            found = template(*arguments)
            return found if found is None else found + ""  # a TypeError if it is no text
        except Exception as exc:  # noqa: BLE001 - the request goes on without its label
            reason = type(exc).__name__
            if reason not in logged:
                logged.add(reason)
                log.error("no template for a request, which is unmatched: %r", exc)
        return None

    return template_or_none


def route_reporter(
    template: Callable[[dict[str, Any]], str | None],
    outer: MutableMapping[str, Any],
    environ: dict[str, Any],
    start_response: Callable[..., Any],
) -> Callable[..., Any]:
    """Return a `start_response` that stores the route of a WSGI request in the ASGI scope."""

    def start(*arguments: Any) -> Any:
        # Relative to the mount of the WSGI application, which the ASGI application knows.
        outer[TEMPLATE] = template(environ) or ""
        return start_response(*arguments)

    return start


class Labels(NamedTuple):
    """The series of one route, method and kind of connection."""

    total: str
    first_byte: str
    client_error: str
    server_error: str
    disconnect: str


class RequestLabels:
    """Names the series of requests, and keeps the names, so that a request needs one look-up.

    Parameters:
        max_templates: The number of templates after which all others share one name.
    """

    def __init__(self, max_templates: int = _MAX_TEMPLATES) -> None:
        self._max_templates = max_templates
        self._templates: set[str] = set()
        self._known: dict[tuple[str | None, str, str], Labels] = {}

    def of(self, template: str | None, method: str, kind: str = "") -> Labels:
        """Return the labels of a request; `template` is None where no route matched."""
        known = self._known.get((template, method, kind))
        return known or self._learn(template, method, kind)

    @staticmethod
    def keeps(method: str) -> bool:
        """Return whether labels of a method may be kept: not those of one that clients invent."""
        return method in _METHODS

    def _learn(self, template: str | None, method: str, kind: str) -> Labels:
        if template is None:
            name = UNMATCHED
        else:
            if template not in self._templates:
                if len(self._templates) >= self._max_templates:
                    template = OTHER
                else:
                    self._templates.add(template)
            name = f"{template} [{method if method in _METHODS else OTHER.upper()}]"
        total = name + kind
        labels = Labels(total, *(f"{total} {word}" for word in _SUFFIXES))
        if self.keeps(method) and template != OTHER:
            self._known[template, method, kind] = labels
        return labels
