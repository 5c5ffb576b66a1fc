"""The labels under which a host records a request.

`<template> [<METHOD>]` is the time from the request's head to the last byte of the response,
and `... ttfb` the time to its first byte. A request that fails has one more observation:
`... 4xx`, `... 5xx` or `... disconnect`. docs/reference/labels.md lists all labels.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVarTuple

from aqltelemetry.system.logs import log

_Ts = TypeVarTuple("_Ts")
UNMATCHED = "unmatched"
"""The label of requests that no route answers."""
OTHER = "other"
"""The template of routes beyond the limit of labels, and the method of unusual ones."""
WEBSOCKET = " websocket"
"""What is added to the label of a websocket's whole life."""
EVENTS = " events"
"""What is added to the label of a stream of server-sent events."""
SERIES_SUFFIXES = ("ttfb", "4xx", "5xx", "disconnect")
"""What is added, after a space, to a request's label for what is recorded beside its total."""
RECORDED_BY = "aqltelemetry.recorded_by"
"""What a middleware leaves in a request's environment, so that it is recorded once."""

CURRENT_ASGI_SCOPE: ContextVar[MutableMapping[str, Any] | None] = ContextVar(
    "answering", default=None
)
"""The scope of the ASGI request being answered, of which one to a WSGI application below it
is a part, and no request of its own."""
WSGI_MIDDLEWARE_EXISTS: list[object] = []
"""Not empty once there is a WSGI middleware, which asks for that. Where there is none it is not
set, since whoever reads a context variable pays for each change of another."""
PLACE = "aqltelemetry.place"
"""What a WSGI middleware leaves in a request's environment where its application has mounts:
where the request leads, as `hosts.wsgi_mounts` says."""
TEMPLATE = "aqltelemetry.template"
"""What an application below leaves there: the template of its request's route, "" for none."""

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}
)
_MAX_TEMPLATES = 1000


def safe_template(template: Callable[[*_Ts], str | None]) -> Callable[[*_Ts], str | None]:
    """Return `template` such that it never raises, and returns a text or None.

    A request whose template can't be had is unmatched; each kind of reason is
    logged once.
    """
    logged: set[str] = set()

    def ask(*arguments: *_Ts) -> str | None:
        try:
            found = template(*arguments)
            return found if found is None else found + ""  # TypeError of what is no text
        except Exception as exc:  # noqa: BLE001 - the request goes on, whatever befalls its label
            reason = type(exc).__name__
            if reason not in logged:
                logged.add(reason)
                log.error("no template for a request, which is unmatched: %r", exc)
        return None

    return ask


def route_reporter(
    template: Callable[[dict[str, Any]], str | None],
    outer: MutableMapping[str, Any],
    environ: dict[str, Any],
    start_response: Callable[..., Any],
) -> Callable[..., Any]:
    """Have the ASGI request that a WSGI one is a part of know the route."""

    def start(*arguments: Any) -> Any:
        # Below where the WSGI application is mounted: that is the ASGI application's to say.
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
    """Names the series of requests; knows no more than `max_templates` templates.

    What is named once is kept, so that a request costs a look-up.
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
        """Say whether labels of a method may be kept: not of one that clients invent."""
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
        labels = Labels(total, *(f"{total} {word}" for word in SERIES_SUFFIXES))
        if self.keeps(method) and template != OTHER:
            self._known[template, method, kind] = labels
        return labels
