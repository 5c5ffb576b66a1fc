"""Makes spans of slow requests.

The identifiers of a span follow from its row, so a span that is sent again is the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2s
from http import HTTPStatus

import numpy as np
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from aqltelemetry.observation import FIRST_BYTE
from aqltelemetry.shipping.destinations.otlp_metrics import SCOPE
from aqltelemetry.shipping.labels import BLOCK, LabelParts, split
from aqltelemetry.shipping.metrics.files import FilePoints
from aqltelemetry.system.clock import NS_PER_S

_SERVER_ERROR = f"{HTTPStatus.INTERNAL_SERVER_ERROR // 100}xx"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def slow_requests(file: FilePoints, resource: Resource, least_s: float) -> list[ReadableSpan]:
    """Return a span for each request of a file that took at least so many seconds."""
    rows = file.rows
    parts = [split(label, file.known) for label in rows.labels]
    found: dict[tuple[str, int, float], str] = {}
    for at in np.flatnonzero(rows.measurements >= least_s).tolist():
        part = parts[rows.label_codes[at]]
        if part.kind == BLOCK or part.status == FIRST_BYTE:
            continue
        request = part.label.removesuffix(f" {part.status}") if part.status else part.label
        key = request, int(rows.timepoints_ns[at]), float(rows.measurements[at])
        # A request with an outcome has a second row, with the same time and value.
        found[key] = part.status or found.get(key, "")
    by_label = {part.label: part for part in parts}
    return [
        _span(file, resource, by_label[request], end_ns, duration_s, status)
        for (request, end_ns, duration_s), status in found.items()
        if request in by_label
    ]


def _span(  # noqa: PLR0913, PLR0917 - what a row is
    file: FilePoints,
    resource: Resource,
    parts: LabelParts,
    end_ns: int,
    duration_s: float,
    outcome: str,
) -> ReadableSpan:
    attributes: dict[str, str] = {
        "http.route": parts.route,
        "http.request.method": parts.method,
        "aqltelemetry.label": parts.label,
    }
    if outcome:
        attributes["error.type"] = outcome
    row = f"{file.writer} {end_ns} {duration_s!r} {parts.label}".encode(errors="replace")
    digest = blake2s(row, digest_size=24).digest()
    identity = int.from_bytes(digest[:16]), int.from_bytes(digest[16:])
    is_error = outcome == _SERVER_ERROR
    return ReadableSpan(
        f"{parts.method} {parts.route}",
        SpanContext(*identity, is_remote=False, trace_flags=_SAMPLED),
        resource=resource,
        attributes=_attributes(attributes),
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if is_error else StatusCode.UNSET),
        start_time=end_ns - round(duration_s * NS_PER_S),
        end_time=end_ns,
        instrumentation_scope=SCOPE,
    )


def _attributes(attributes: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in attributes.items() if value}
