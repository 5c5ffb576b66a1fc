from __future__ import annotations

import pytest

from aqltelemetry.shipping.metrics.durations import (
    BLOCK_DURATION,
    BLOCK_FAILURES,
    FIRST_BYTE_TIME,
    REQUEST_DURATION,
    REQUEST_ERRORS,
    duration_series,
)
from aqltelemetry.shipping.metrics.metric import Metric

_KNOWN = {
    *("/a/{id} [GET]", "/a/{id} [GET] ttfb", "/a/{id} [GET] 5xx", "/a/{id} [GET] disconnect"),
    *("/ws [GET] websocket", "/ws [GET] websocket ttfb", "/ws [GET] websocket 4xx"),
    *("/e [GET] events", "unmatched", "unmatched 4xx", "job", "job failed", "job ttfb", "x 4xx"),
}


@pytest.mark.parametrize(
    ("label", "metric", "values"),
    [
        ("/a/{id} [GET]", REQUEST_DURATION, ("/a/{id}", "GET")),
        ("/a/{id} [GET] ttfb", FIRST_BYTE_TIME, ("/a/{id}", "GET")),
        ("/a/{id} [GET] 5xx", REQUEST_ERRORS, ("/a/{id}", "GET", "5xx")),
        ("/a/{id} [GET] disconnect", REQUEST_ERRORS, ("/a/{id}", "GET", "disconnect")),
        ("/ws [GET] websocket", REQUEST_DURATION, ("/ws websocket", "GET")),
        ("/ws [GET] websocket ttfb", FIRST_BYTE_TIME, ("/ws websocket", "GET")),
        ("/ws [GET] websocket 4xx", REQUEST_ERRORS, ("/ws websocket", "GET", "4xx")),
        ("/e [GET] events", REQUEST_DURATION, ("/e events", "GET")),
        ("unmatched", REQUEST_DURATION, ("unmatched", "")),
        ("unmatched 4xx", REQUEST_ERRORS, ("unmatched", "", "4xx")),
        ("job", BLOCK_DURATION, ("job",)),
        ("job failed", BLOCK_FAILURES, ("job",)),
        ("job ttfb", BLOCK_DURATION, ("job ttfb",)),
        ("x 4xx", BLOCK_DURATION, ("x 4xx",)),
    ],
)
def test_a_label_belongs_to_one_series(label: str, metric: Metric, values: tuple[str, ...]) -> None:
    series = duration_series(label, _KNOWN)
    assert (series.metric, series.values) == (metric, values)
    assert len(metric.labels) == len(values)
