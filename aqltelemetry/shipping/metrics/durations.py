"""The metrics of durations: of requests by route, and of blocks."""

from __future__ import annotations

from collections.abc import Collection

from aqltelemetry.observation import FAILED, FIRST_BYTE
from aqltelemetry.shipping.labels import BLOCK, REQUEST, split
from aqltelemetry.shipping.metrics.metric import Metric, MetricSeries, MetricType

_ROUTE_LABELS = ("route", "method")
REQUEST_DURATION = Metric(
    "aqltelemetry_request_duration_seconds",
    MetricType.HISTOGRAM,
    "Time from the head of a request to the last byte of its response, of all requests.",
    _ROUTE_LABELS,
)
REQUEST_ERRORS = Metric(
    "aqltelemetry_request_errors_total",
    MetricType.COUNTER,
    "Requests that ended with a status of 4xx or 5xx, or whose client disconnected early.",
    (*_ROUTE_LABELS, "status"),
)
FIRST_BYTE_TIME = Metric(
    "aqltelemetry_request_first_byte_seconds",
    MetricType.HISTOGRAM,
    "Time from the head of a request to the begin of its response.",
    _ROUTE_LABELS,
)
BLOCK_DURATION = Metric(
    "aqltelemetry_block_duration_seconds",
    MetricType.HISTOGRAM,
    "Duration of a block or function, however it ended.",
    ("block",),
)
BLOCK_FAILURES = Metric(
    "aqltelemetry_block_failures_total",
    MetricType.COUNTER,
    "Blocks and functions that an exception ended.",
    ("block",),
)
DURATION_METRICS = (
    REQUEST_DURATION,
    REQUEST_ERRORS,
    FIRST_BYTE_TIME,
    BLOCK_DURATION,
    BLOCK_FAILURES,
)
"""All metrics of durations."""


def duration_series(label: str, known_labels: Collection[str]) -> MetricSeries:
    """Return the time series that counts the observations of a label of durations.

    Args:
        label: The label.
        known_labels: All labels of durations, which show whether it is a part of another one.

    Example:
        >>> duration_series("/a [GET] 5xx", {"/a [GET]", "/a [GET] 5xx"}).values
        ('/a', 'GET', '5xx')
    """
    parts = split(label, known_labels)
    if parts.kind == BLOCK:
        is_failed = parts.status == FAILED
        block = parts.route if is_failed else label
        return MetricSeries(BLOCK_FAILURES if is_failed else BLOCK_DURATION, (block,))
    # `/ws [GET] websocket` and `/events [GET] events` are routes of their own.
    kind = "" if parts.kind == REQUEST else f" {parts.kind}"
    request = parts.route + kind, parts.method
    if parts.status == FIRST_BYTE:
        return MetricSeries(FIRST_BYTE_TIME, request)
    if parts.status:
        return MetricSeries(REQUEST_ERRORS, (*request, parts.status))
    return MetricSeries(REQUEST_DURATION, request)
