"""Gives the totals of a recording to the library `prometheus_client`, as metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from aqltelemetry.shipping.metrics.buckets import Bounds, bound_text, cumulated
from aqltelemetry.shipping.metrics.durations import DURATION_METRICS, duration_series
from aqltelemetry.shipping.metrics.metric import WORKER_LABELS, Metric, MetricSeries, MetricType
from aqltelemetry.shipping.metrics.samples import SAMPLE_METRICS, VALUE
from aqltelemetry.views.metrics.histograms import Histogram
from aqltelemetry.views.metrics.totals import Totals

WORKERS = Metric("aqltelemetry_workers", MetricType.GAUGE, "Processes that are recording now.")
STARTS = Metric(
    "aqltelemetry_worker_starts_total",
    MetricType.COUNTER,
    "Recordings that started since this exporter started.",
)
ENDS = Metric(
    "aqltelemetry_worker_ends_total",
    MetricType.COUNTER,
    "Recordings that ended since this exporter started: stopped in order, or killed.",
    ("end",),
)
REQUESTS = Metric(
    "aqltelemetry_worker_requests_total",
    MetricType.COUNTER,
    "Requests that the process has answered since this exporter started.",
    WORKER_LABELS,
)
VALUES = Metric(
    "aqltelemetry_worker_values",
    MetricType.SUMMARY,
    "Number and sum of the values of such a series since this exporter started.",
    VALUE.labels + WORKER_LABELS,
)
CPU = Metric(
    "aqltelemetry_cpu_seconds_total",
    MetricType.COUNTER,
    "Processor time of all processes since this exporter started, also of those that ended.",
    ("mode",),
)
ROWS_READ = Metric(
    "aqltelemetry_exporter_observations_total",
    MetricType.COUNTER,
    "Observations that this exporter has read.",
)
READ_TIME = Metric(
    "aqltelemetry_exporter_read_seconds_total",
    MetricType.COUNTER,
    "Processor time that this exporter has used for reading.",
)
LEFT_OUT = Metric(
    "aqltelemetry_exporter_left_out_observations_total",
    MetricType.COUNTER,
    "Observations of a worker's series beyond the first 200, which have no time series here.",
)
MISSED = Metric(
    "aqltelemetry_exporter_missed_files_total",
    MetricType.COUNTER,
    "Files that were removed before this exporter could read them.",
)
IS_BEHIND = Metric(
    "aqltelemetry_exporter_behind",
    MetricType.GAUGE,
    "1 if the last scrape has left something for the next one, for lack of time.",
)
OWN_METRICS = (
    WORKERS,
    REQUESTS,
    VALUES,
    STARTS,
    ENDS,
    CPU,
    ROWS_READ,
    READ_TIME,
    LEFT_OUT,
    MISSED,
    IS_BEHIND,
)
"""The metrics that a scrape has in addition to those that can be shipped."""
_ENDS: Mapping[bool, str] = {True: "stopped", False: "killed"}


class Reading(NamedTuple):
    """What a scrape has found, in addition to the totals.

    Attributes:
        running: The writers of recordings that go on, as far as is known.
        cpu_s: The processor time in seconds that reading has taken so far.
        missed: How many files were removed unread.
        is_behind: Whether some of what is new was left for the next scrape.
    """

    running: Collection[str]
    cpu_s: float
    missed: int
    is_behind: bool


class TotalsCollector(Collector):
    """Makes metrics of totals.

    Args:
        totals: The totals.
        reading: What the scrape found in addition.
    """

    def __init__(self, totals: Totals, reading: Reading) -> None:
        self._totals = totals
        self._reading = reading
        self._families: dict[Metric, Family] = {}

    def collect(self) -> Iterator[Family]:
        """Yield all metrics."""
        self._families = {}
        for metric in DURATION_METRICS:
            self._family(metric, is_of_worker=False)
        for metric in SAMPLE_METRICS:
            self._family(metric, is_of_worker=True)
        for metric in (REQUESTS, VALUES):
            self._family(metric, is_of_worker=False)
        self._add_durations()
        self._add_workers()
        self._add_own()
        yield from self._families.values()

    def _add_durations(self) -> None:
        histograms = self._totals.durations
        known = histograms.keys()
        for label, histogram in histograms.items():
            series = duration_series(label, known)
            self._add_histogram(series, (), histogram, histograms.bounds)

    def _add_workers(self) -> None:
        workers = self._totals.workers
        running = {writer: str(workers[writer].pid) for writer in self._shown()}
        for writer, pid in running.items():
            for series, value in workers[writer].samples.items():
                self._add_value(series, value, (pid, writer))
            for series, (count, total) in workers[writer].values.items():
                family = self._families[VALUES]
                assert isinstance(family, SummaryMetricFamily)  # noqa: S101 - for the type checker
                family.add_metric((*series.values, pid, writer), count, total)
            requests = workers[writer].requests
            if requests is not None:
                self._add_value(MetricSeries(REQUESTS, (pid, writer)), requests, ())
        pauses, stalls = self._totals.pauses, self._totals.stalls
        for (writer, series), histogram in pauses.items():
            if writer in running:
                own = (running[writer], writer)
                self._add_histogram(series, own, histogram, pauses.bounds)
        for key, histogram in stalls.items():
            writer, series = key
            if writer in running:
                shown = histogram if key in self._totals.begun else histogram.emptied()
                self._totals.begun.add(key)
                self._add_histogram(series, (running[writer], writer), shown, stalls.bounds)

    def _shown(self) -> Iterator[str]:
        """Yield the writers whose own metrics are shown: one for each process that goes on.

        A forked child has several; the latest one counts.
        """
        workers = self._totals.workers
        latest: dict[int, str] = {}
        for writer in self._reading.running:
            worker = workers.get(writer)
            if worker is None:
                continue
            other = latest.get(worker.pid)
            if other is None or workers[other].last_ns < worker.last_ns:
                latest[worker.pid] = writer
        yield from latest.values()

    def _add_own(self) -> None:
        totals, reading = self._totals, self._reading
        ends, cpu_s = totals.ended(), totals.cpu_s()
        counts = {
            MetricSeries(WORKERS): len([*self._shown()]),
            MetricSeries(STARTS): totals.started(),
            **{MetricSeries(ENDS, (_ENDS[end],)): count for end, count in ends.items()},
            **{MetricSeries(CPU, (mode,)): seconds for mode, seconds in cpu_s.items()},
            MetricSeries(ROWS_READ): totals.rows,
            MetricSeries(READ_TIME): reading.cpu_s,
            MetricSeries(LEFT_OUT): totals.left_out,
            MetricSeries(MISSED): reading.missed,
            MetricSeries(IS_BEHIND): reading.is_behind,
        }
        for series, value in counts.items():
            self._family(series.metric, is_of_worker=False)
            self._add_value(series, float(value), ())

    def _family(self, metric: Metric, *, is_of_worker: bool) -> None:
        kinds = {
            MetricType.COUNTER: CounterMetricFamily,
            MetricType.GAUGE: GaugeMetricFamily,
            MetricType.HISTOGRAM: HistogramMetricFamily,
            MetricType.SUMMARY: SummaryMetricFamily,
        }
        labels = (*metric.labels, *(WORKER_LABELS if is_of_worker else ()))
        if metric not in self._families:
            self._families[metric] = kinds[metric.type](metric.name, metric.text, labels=labels)

    def _add_histogram(
        self, series: MetricSeries, own: tuple[str, ...], histogram: Histogram, bounds: Bounds
    ) -> None:
        family = self._families[series.metric]
        counts = cumulated(histogram.counts)
        labels = (*series.values, *own)
        if isinstance(family, HistogramMetricFamily):
            buckets = list(zip(map(bound_text, bounds), counts, strict=True))
            family.add_metric(labels, buckets, histogram.sum)
        else:
            self._add_value(series, counts[-1], own)

    def _add_value(self, series: MetricSeries, value: float, own: tuple[str, ...]) -> None:
        family = self._families[series.metric]
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)  # noqa: S101 - for the type checker
        family.add_metric((*series.values, *own), value)
