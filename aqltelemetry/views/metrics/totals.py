"""Adds up observations as they arrive; a total never becomes smaller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import ACCOUNT, DURATION, RUNTIME, STALL
from aqltelemetry.reading.rows import Rows
from aqltelemetry.shipping.labels import REQUEST, split
from aqltelemetry.shipping.metrics.buckets import Bounds
from aqltelemetry.shipping.metrics.metric import MetricSeries, MetricType
from aqltelemetry.shipping.metrics.samples import CPU_TIME, VALUE, sample_bounds, sample_series
from aqltelemetry.sinks.account import CHILD, END
from aqltelemetry.views.metrics.histograms import Histograms

MAX_LABELS = 2_000
"""The number of labels of durations from which on further ones are counted as `OTHER`."""
OTHER = "other labels"
"""The label of the durations of all labels beyond `MAX_LABELS`."""
MAX_WORKER_SERIES = 200
"""The number of sampled series of a worker from which on further ones are left out."""


class WorkerSeries(NamedTuple):
    """A time series of a worker: its writer, and the series."""

    writer: str
    series: MetricSeries


@dataclass(slots=True)
class Worker:
    """What is known of a recording; times are in nanoseconds since the epoch.

    Attributes:
        pid: Its process.
        begin_ns: The first time at which it recorded.
        last_ns: The last one.
        samples: The last value of each sampled series.
        first_cpu_s: The processor time by mode at the first sample that was read.
        values: The number and the sum of the values of each series of the application.
        requests: How many requests it has recorded since the time; None if it has recorded none.
        child: Identifies a forked child, each segment of which may have another writer.
        is_stopped: Whether it was stopped in order; None if it has not ended, as far as is known.
    """

    pid: int
    begin_ns: int
    last_ns: int
    samples: dict[MetricSeries, float] = field(default_factory=dict)
    sampled_ns: dict[MetricSeries, int] = field(default_factory=dict)
    values: dict[MetricSeries, tuple[int, float]] = field(default_factory=dict)
    first_cpu_s: dict[str, float] = field(default_factory=dict)
    requests: int | None = None
    child: int | None = None
    is_stopped: bool | None = None


class Totals:
    """The totals of the observations that were made since a time.

    Args:
        since_ns: Observations before this time are not counted, in nanoseconds since the epoch.
        bounds: The bounds of the histograms of durations, in seconds.
        max_labels: The number of labels from which on further ones are counted together.

    Attributes:
        rows: How many observations were added.
        left_out: How many of them are of series beyond `MAX_WORKER_SERIES`.
        durations: The histograms of durations, by label.
        pauses: The histograms of what samplers of `runtime` measure.
        stalls: The histograms of stalls.
        workers: What is known of each recording, by its writer.
        begun: The time series of stalls that a scrape has had.
    """

    def __init__(self, since_ns: int, bounds: Bounds, max_labels: int = MAX_LABELS) -> None:
        self._since_ns = since_ns
        self._max_labels = max_labels
        self.rows = self.left_out = 0
        self.durations: Histograms[str] = Histograms(bounds)
        self.pauses: Histograms[WorkerSeries] = Histograms(sample_bounds(RUNTIME))
        self.stalls: Histograms[WorkerSeries] = Histograms(sample_bounds(STALL))
        self.workers: dict[str, Worker] = {}
        self.begun: set[WorkerSeries] = set()
        self._labels: set[str] = set()
        self._older: frozenset[str] = frozenset()

    def note_older(self, writers: Iterable[str]) -> None:
        """Note the writers of recordings that started before the time."""
        self._older = frozenset(writers)

    def add(self, prefix: str, rows: Rows) -> None:
        """Add observations that were not added before."""
        is_new = rows.timepoints_ns >= self._since_ns
        self._note_workers(rows)
        if not is_new.all():
            rows = rows[is_new]
        if not len(rows):
            return
        if prefix == ACCOUNT:
            self._add_accounts(rows)
            return
        self.rows += len(rows)
        if prefix == DURATION:
            labels = [self._counted_label(label) for label in rows.labels]
            self.durations.add(labels, rows.label_codes, rows.measurements)
            self._add_requests(rows)
        else:
            self._add_samples(prefix, rows)

    def started(self) -> int:
        """Return how many recordings started since the time."""
        are_new: dict[object, bool] = {}
        for writer, worker in self.workers.items():
            key = _recording(writer, worker)
            are_new[key] = are_new.get(key, True) and self._is_new(writer)
        return sum(are_new.values())

    def ended(self) -> Mapping[bool, int]:
        """Return how many recordings ended since the time: stopped in order, and killed."""
        ends: dict[object, bool] = {}
        for writer, worker in self.workers.items():
            if worker.is_stopped is not None:
                ends[_recording(writer, worker)] = worker.is_stopped
        return {is_stopped: [*ends.values()].count(is_stopped) for is_stopped in (True, False)}

    def cpu_s(self) -> Mapping[str, float]:
        """Return the processor time that all recordings used since the time, by mode."""
        used: dict[tuple[object, str], tuple[float, float]] = {}
        for writer, worker in self.workers.items():
            for mode, first_s in worker.first_cpu_s.items():
                key = _recording(writer, worker), mode
                last_s = worker.samples[MetricSeries(CPU_TIME, (mode,))]
                low, high = used.get(key, (first_s, last_s))
                used[key] = min(low, first_s), max(high, last_s)
        return {
            wanted: sum(high - low for (_, mode), (low, high) in used.items() if mode == wanted)
            for wanted in ("user", "system")
        }

    def _counted_label(self, label: str) -> str:
        if label not in self._labels:
            if len(self._labels) >= self._max_labels:
                return OTHER
            self._labels.add(label)
        return label

    def _note_workers(self, rows: Rows) -> None:
        for code, (pid, writer) in enumerate(rows.processes):
            times = rows.timepoints_ns[rows.process_codes == code]
            if len(times):
                first_ns, last_ns = int(times.min()), int(times.max())
                worker = self.workers.setdefault(writer, Worker(pid, first_ns, last_ns))
                worker.begin_ns = min(worker.begin_ns, first_ns)
                worker.last_ns = max(worker.last_ns, last_ns)

    def _add_requests(self, rows: Rows) -> None:
        """Count the requests of each worker, each of them once."""
        is_request = np.array([_is_of_requests(label) for label in rows.labels], bool)
        processes = rows.process_codes[is_request[rows.label_codes]]
        counts = np.bincount(processes, minlength=len(rows.processes)).tolist()
        for (_, writer), number in zip(rows.processes, counts, strict=True):
            if number:
                worker = self.workers[writer]
                worker.requests = (worker.requests or 0) + number

    def _add_accounts(self, rows: Rows) -> None:
        for label, wanted in ((END, rows.of_label(END)), (CHILD, rows.of_label(CHILD))):
            for code, value in zip(wanted.process_codes, wanted.measurements, strict=True):
                worker = self.workers[wanted.processes[code].writer]
                if label == END:
                    worker.is_stopped = bool(value)
                else:
                    worker.child = int(value)

    def _add_samples(self, prefix: str, rows: Rows) -> None:
        known = [sample_series(prefix, label) for label in rows.labels]
        for code, (_, writer) in enumerate(rows.processes):
            own = rows[rows.process_codes == code] if len(rows.processes) > 1 else rows
            if len(own):
                self._add_pauses(
                    self.stalls if prefix == STALL else self.pauses, writer, own, known
                )
                self._add_last_values(writer, own, known)

    @staticmethod
    def _add_pauses(
        pauses: Histograms[WorkerSeries],
        writer: str,
        rows: Rows,
        known: Sequence[MetricSeries | None],
    ) -> None:
        is_wanted = np.array([_is_histogram(each) for each in known], bool)[rows.label_codes]
        if is_wanted.any():
            nothing = MetricSeries(CPU_TIME)
            keys = [WorkerSeries(writer, each or nothing) for each in known]
            pauses.add(keys, rows.label_codes[is_wanted], rows.measurements[is_wanted])

    def _add_last_values(
        self, writer: str, rows: Rows, known: Sequence[MetricSeries | None]
    ) -> None:
        worker = self.workers[writer]
        for last in _last_values(rows):
            series = known[last.code]
            if series is None or _is_histogram(series):
                continue
            if series.metric == CPU_TIME:
                # The processor time of a new recording counts from its start.
                first_s = 0.0 if self._is_new(writer) else last.first_value
                worker.first_cpu_s.setdefault(series.values[0], first_s)
            if series not in worker.samples and len(worker.samples) >= MAX_WORKER_SERIES:
                self.left_out += len(last.values)
                continue
            if series.metric == VALUE:
                numbers = last.values[np.isfinite(last.values)]
                count, total = worker.values.get(series, (0, 0.0))
                worker.values[series] = count + len(numbers), total + float(numbers.sum())
            if last.at_ns >= worker.sampled_ns.get(series, last.at_ns):
                worker.samples[series] = last.value
                worker.sampled_ns[series] = last.at_ns

    def _is_new(self, writer: str) -> bool:
        return writer not in self._older and self.workers[writer].begin_ns >= self._since_ns


def _recording(writer: str, worker: Worker) -> object:
    return writer if worker.child is None else worker.child


@lru_cache(MAX_LABELS)
def _is_of_requests(label: str) -> bool:
    """Return whether a label is that of all requests of a route, and not of an outcome."""
    return split(label, ()).kind == REQUEST


def _is_histogram(series: MetricSeries | None) -> bool:
    return series is not None and series.metric.type is MetricType.HISTOGRAM


class _Last(NamedTuple):
    """The values of a label in some rows, the last and the first one, and the time of the last."""

    code: int
    value: float
    at_ns: int
    first_value: float
    values: npt.NDArray[np.float64]


def _last_values(rows: Rows) -> Iterator[_Last]:
    """Yield the last value of each label that occurs."""
    order = np.argsort(rows.timepoints_ns, kind="stable")
    codes: npt.NDArray[np.int64] = rows.label_codes[order].astype(np.int64)
    last, first = np.zeros((2, len(rows.labels)), np.int64)
    # The last of several values with the same index remains.
    last[codes] = order
    first[codes[::-1]] = order[::-1]
    for code in np.flatnonzero(np.bincount(codes)).tolist():
        at = int(last[code])
        yield _Last(
            code,
            float(rows.measurements[at]),
            int(rows.timepoints_ns[at]),
            float(rows.measurements[first[code]]),
            rows.measurements[rows.label_codes == code],
        )
