"""Makes OpenTelemetry's metrics of points.

Names and attributes are those of the semantic conventions where there are any:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ and
https://opentelemetry.io/docs/specs/semconv/system/process-metrics/. All totals are cumulative since
the begin of their recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from aqltelemetry.observation import DURATION
from aqltelemetry.reading.rollups.buckets import SCALE, ZERO
from aqltelemetry.shipping.metrics import durations, samples
from aqltelemetry.shipping.metrics.cumulative import Point, Total
from aqltelemetry.shipping.metrics.files import FilePoints
from aqltelemetry.shipping.metrics.metric import MetricSeries, MetricType

_NS_PER_MS = 1_000_000
SCOPE = InstrumentationScope("aqltelemetry")
"""The scope of all metrics and spans."""


class _Convention(NamedTuple):
    """The name and unit of a metric, and the names of attributes by those of labels."""

    name: str
    unit: str
    attributes: Mapping[str, str] = MappingProxyType({})


_ROUTE = {"route": "http.route", "method": "http.request.method", "status": "error.type"}
_CONVENTIONS: Mapping[str, _Convention] = MappingProxyType(
    {
        durations.REQUEST_DURATION.name: _Convention("http.server.request.duration", "s", _ROUTE),
        durations.REQUEST_ERRORS.name: _Convention(
            "aqltelemetry.http.server.request.errors", "{request}", _ROUTE
        ),
        durations.FIRST_BYTE_TIME.name: _Convention(
            "aqltelemetry.http.server.first_byte", "s", _ROUTE
        ),
        durations.BLOCK_DURATION.name: _Convention("aqltelemetry.block.duration", "s"),
        durations.BLOCK_FAILURES.name: _Convention("aqltelemetry.block.failures", "{failure}"),
        samples.CPU_TIME.name: _Convention("process.cpu.time", "s", {"mode": "cpu.mode"}),
        samples.RSS.name: _Convention("process.memory.usage", "By"),
        samples.GC_PAUSE.name: _Convention("aqltelemetry.gc.pause", "s"),
        samples.LAG.name: _Convention("aqltelemetry.event_loop.lag", "s"),
        samples.STALL_TIME.name: _Convention("aqltelemetry.event_loop.stall", "s"),
        samples.IN_FLIGHT.name: _Convention("http.server.active_requests", "{request}"),
        "aqltelemetry_worker_open_fds": _Convention(
            "process.unix.file_descriptor.count", "{file_descriptor}"
        ),
        "aqltelemetry_worker_threads": _Convention("process.thread.count", "{thread}"),
        "aqltelemetry_worker_context_switches_total": _Convention(
            "process.context_switches", "{context_switch}", {"kind": "process.context_switch.type"}
        ),
    }
)


def metrics_data(prefix: str, file: FilePoints, resource: Resource) -> MetricsData:
    """Return the metrics of a file's points."""
    found: dict[str, tuple[MetricSeries, list[Any]]] = {}
    for label, points in file.points.items():
        series = _series(prefix, label, file.known)
        if series is not None:
            _, made = found.setdefault(series.metric.name, (series, []))
            made += _data_points(series, points, file.start_ns)
    metrics = [_metric(series, points) for series, points in found.values()]
    scope = ScopeMetrics(SCOPE, metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _series(prefix: str, label: str, known: frozenset[str]) -> MetricSeries | None:
    if prefix == DURATION:
        return durations.duration_series(label, known)
    return samples.sample_series(prefix, label)


def _convention(series: MetricSeries) -> _Convention:
    name = series.metric.name
    own = name.removeprefix("aqltelemetry_worker_").removesuffix("_total")
    return _CONVENTIONS.get(name) or _Convention(f"aqltelemetry.{own}", "1")


def _metric(series: MetricSeries, points: Sequence[Any]) -> Metric:
    convention, metric = _convention(series), series.metric
    cumulative = AggregationTemporality.CUMULATIVE
    data: Any = Gauge(points)
    if metric.type is MetricType.HISTOGRAM:
        data = ExponentialHistogram(points, cumulative)
    elif metric.type is MetricType.COUNTER:
        data = Sum(points, cumulative, is_monotonic=True)
    return Metric(convention.name, metric.text, convention.unit, data)


def _data_points(series: MetricSeries, points: Sequence[Point], start_ns: int) -> list[Any]:
    metric, names = series.metric, _convention(series).attributes
    labels = zip(metric.labels, series.values, strict=True)
    attributes = {names.get(label, label): value for label, value in labels if value}
    made: list[Any] = []
    # A begin before all points, which are rounded down to a millisecond.
    begin_ns = start_ns - _NS_PER_MS
    for at_ms, value in points:
        times = begin_ns, max(at_ms * _NS_PER_MS, start_ns)
        if not isinstance(value, Total):
            made.append(NumberDataPoint(attributes, *times, value))
        elif metric.type is MetricType.HISTOGRAM:
            made.append(_histogram_point(attributes, times, value))
        else:
            made.append(NumberDataPoint(attributes, *times, value.count))
    return made


def _histogram_point(
    attributes: Mapping[str, str], times: tuple[int, int], total: Total
) -> ExponentialHistogramDataPoint:
    positive = {number: count for number, count in total.buckets.items() if number != ZERO}
    first, last = min(positive, default=0), max(positive, default=-1)
    counts = [positive.get(number, 0) for number in range(first, last + 1)]
    return ExponentialHistogramDataPoint(
        attributes,
        *times,
        count=total.count,
        sum=total.sum,
        scale=SCALE,
        zero_count=total.buckets.get(ZERO, 0),
        positive=Buckets(first, counts),
        negative=Buckets(0, []),
        flags=0,
        min=total.min,
        max=total.max,
    )
