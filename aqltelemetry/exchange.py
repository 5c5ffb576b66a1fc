"""What a host records of an HTTP exchange, and under which labels.

`<template> [<METHOD>]` is the time from the request's head to the last byte of
the response, `... ttfb` that to the first one. An exchange that did not go well is
an observation more: `... 4xx`, `... 5xx` or `... disconnect`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVarTuple

from aqltelemetry.clock import monotonic_ns
from aqltelemetry.journal.segment import Counter
from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.recorder import append_duration

_log = logging.getLogger("aqltelemetry")
_Ts = TypeVarTuple("_Ts")
UNMATCHED = "unmatched"
"""The label of requests that no route answers."""
OTHER = "other"
"""The template of routes beyond the limit of labels, and the method of unusual ones."""
WEBSOCKET = " websocket"
"""What is added to the label of a websocket's whole life."""
EVENTS = " events"
"""What is added to the label of a stream of server-sent events."""
IN_FLIGHT = "requests in flight"
RECORDED_BY = "aqltelemetry.recorded_by"
"""What a middleware leaves in a request's environment, so that it is recorded once."""

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}
)
_MAX_TEMPLATES = 1000
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


def guarded(template: Callable[[*_Ts], str | None]) -> Callable[[*_Ts], str | None]:
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
                _log.error("no template for a request, which is unmatched: %r", exc)
        return None

    return ask


class RequestLabels:
    """Names the series of requests; knows no more than `max_templates` templates."""

    def __init__(self, max_templates: int = _MAX_TEMPLATES) -> None:
        self._max_templates = max_templates
        self._templates: set[str] = set()

    def of(self, template: str | None, method: str) -> str:
        """Return the label of a request; `template` is None where no route matched."""
        if template is None:
            return UNMATCHED
        if template not in self._templates:
            if len(self._templates) >= self._max_templates:
                template = OTHER
            else:
                self._templates.add(template)
        return f"{template} [{method if method in _METHODS else OTHER.upper()}]"


class InFlight:
    """Counts the requests that are being answered, and samples that number."""

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self) -> None:
        self._begun = Counter()
        self._ended = Counter()

    def begin(self) -> None:
        """Count a request, from any thread."""
        self._begun.step()

    def end(self) -> None:
        """Count its end."""
        self._ended.step()

    async def sample(self) -> Sequence[Measurement]:
        """Return the number of requests in flight."""
        ended = self._ended.value
        return (Measurement(IN_FLIGHT, self._begun.value - ended),)


class Exchange:
    """One request and its response; begins when it is made.

    `status` is 0 until the response begins; `kind` as `WEBSOCKET` or `EVENTS`.
    """

    __slots__ = ("_first_ns", "_started_ns", "disconnected", "ended", "kind", "status")

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        self.status = 0
        self.disconnected = False
        self.ended = False
        self._first_ns = 0
        self._started_ns = monotonic_ns()

    def first_byte(self) -> None:
        """Note that the response's body begins now, if it has not before."""
        if not self._first_ns:
            self._first_ns = monotonic_ns()

    def end(self, label: str, *, with_ttfb: bool) -> None:
        """Record the exchange, once, however often this is called."""
        if self.ended:
            return
        self.ended = True
        end_ns = monotonic_ns()
        label += self.kind
        append_duration(label, end_ns, end_ns - self._started_ns)
        if with_ttfb and self._first_ns:
            append_duration(f"{label} ttfb", self._first_ns, self._first_ns - self._started_ns)
        if outcome := self._outcome():
            append_duration(f"{label} {outcome}", end_ns, end_ns - self._started_ns)

    def _outcome(self) -> str:
        if self.disconnected:
            return "disconnect"
        if self.status >= _SERVER_ERROR:
            return "5xx"
        return "4xx" if self.status >= _CLIENT_ERROR else ""
