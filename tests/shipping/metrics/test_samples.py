from __future__ import annotations

from aqltelemetry.shipping.metrics.metric import MetricType
from aqltelemetry.shipping.metrics.samples import (
    SAMPLE_METRICS,
    is_histogram,
    sample_bounds,
    sample_series,
)


def test_counters_end_with_total_and_no_other_metric_does() -> None:
    for metric in SAMPLE_METRICS:
        assert metric.name.endswith("_total") == (metric.type is MetricType.COUNTER)


def test_a_sample_belongs_to_the_metric_of_its_label() -> None:
    dropped = sample_series("runtime", "telemetry dropped no segment")
    assert dropped is not None
    assert (dropped.metric.labels, dropped.values) == (("reason",), ("no segment",))
    assert sample_series("runtime", "gc pause") is None  # each one counts as that of a generation
    value = sample_series("queue", "length")
    assert value is not None
    assert value.values == ("queue", "length")
    stall = sample_series("stall", "no CPU")
    assert stall is not None
    assert (stall.metric.labels, stall.values) == (("cause",), ("no CPU",))
    assert {*SAMPLE_METRICS} >= {dropped.metric, value.metric, stall.metric}


def test_stalls_have_buckets_for_seconds() -> None:
    assert is_histogram("stall", "no CPU")
    assert sample_bounds("stall")[-2] == 30
    assert sample_bounds("runtime")[-2] == 1
