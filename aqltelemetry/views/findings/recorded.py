"""What the rules look at: a recording as arrays, grouped by label and process once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.outcomes import OUTCOMES, roles
from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.reading.stalls.intervals import merged
from aqltelemetry.reading.stalls.overlaps import Stalls, lines_of
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.reading.summaries.selection import quantiles_of
from aqltelemetry.reading.writers import KILLED, RUNNING, STOPPED, UNKNOWN
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import labels
from aqltelemetry.views.findings.wording import Calendar

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
_R = TypeVar("_R")

# A start is slow: modules load, connections open, caches fill. What is compared leaves out the
# first fifth of each process's time, but not more than ten seconds.
_WARM_UP_S = 10.0
_WARM_UP_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Worker:
    """A recorded process; times are those of its first and last observation."""

    number: int
    pid: int
    writer: str
    begin_ns: int
    end_ns: int

    @property
    def process(self) -> Process:
        """Its PID and writer."""
        return Process(self.pid, self.writer)

    @property
    def seconds(self) -> float:
        """The length of its recording."""
        return (self.end_ns - self.begin_ns) / NS_PER_S

    @property
    def settled_ns(self) -> int:
        """The end of its warm-up."""
        return self.begin_ns + round(min(_WARM_UP_S, _WARM_UP_SHARE * self.seconds) * NS_PER_S)


class Gap(NamedTuple):
    """A time in which the recording of a worker was switched off; `is_over` if it is on again."""

    worker: Worker
    begin_ns: int
    end_ns: int
    is_over: bool


class StallPlace(NamedTuple):
    """What blocked an event loop: the cause, `file:line`, and the function; "" if unknown."""

    cause: str
    line: str
    function: str


class Samples(NamedTuple):
    """Observations of a series: times in nanoseconds since the epoch, and values."""

    times_ns: Integers
    values: Floats


class Durations:
    """The durations of a label, in the order of their workers: when each ended, and seconds.

    `parts` has the bounds of each worker's durations in the arrays, by number of the worker.
    """

    def __init__(
        self, label: str, ends_ns: Integers, seconds: Floats, parts: Mapping[int, slice]
    ) -> None:
        self.label = label
        self.ends_ns = ends_ns
        self.seconds = seconds
        self.parts = parts
        self.outcomes: dict[str, Durations] = {}

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def is_request(self) -> bool:
        """Whether it is a route with a method, and not a block or a function."""
        return self.label.endswith("]")

    @property
    def is_connection(self) -> bool:
        """Whether the durations are lives of connections, which say nothing about speed."""
        return self.label.endswith((labels.WEBSOCKET, labels.EVENTS))

    @cached_property
    def begins_ns(self) -> Integers:
        """When each began."""
        return self.ends_ns - (self.seconds * NS_PER_S).astype(np.int64)

    @property
    def median_s(self) -> float:
        """The median of all."""
        return self._quantiles[0]

    @property
    def p99_s(self) -> float:
        """The 99th percentile of all."""
        return self._quantiles[1]

    @cached_property
    def _quantiles(self) -> Sequence[float]:
        return quantiles_of(self.seconds, 0.5, 0.99)

    def of(self, number: int) -> Durations:
        """Return the durations of one worker."""
        part = self.parts.get(number, slice(0, 0))
        count = part.stop - part.start
        return Durations(
            self.label, self.ends_ns[part], self.seconds[part], {number: slice(0, count)}
        )

    def chosen(self, mask: Any) -> Samples:
        """Return the ends and seconds that a mask or a slice chooses."""
        return Samples(self.ends_ns[mask], self.seconds[mask])


class Recorded:
    """The observations that a database has loaded; everything is computed once it is used."""

    def __init__(self, db: TelemetryDB, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._db = db
        self._basis = db.basis()
        self._results: dict[Any, Any] = {}

    def once(self, compute: Callable[[Recorded], _R]) -> _R:
        """Return the result of a function that several rules use; it is called once."""
        if compute not in self._results:
            self._results[compute] = compute(self)
        result: _R = self._results[compute]
        return result

    @property
    def accounts(self) -> Rows:
        """The accounts."""
        return self._basis.accounts

    @cached_property
    def calendar(self) -> Calendar:
        """Formats times."""
        return Calendar(self.begin_ns, self.end_ns, self._zone)

    @property
    def begin_ns(self) -> int:
        """The time of the first observation; 0 if there is none."""
        return min((worker.begin_ns for worker in self.workers), default=0)

    @property
    def end_ns(self) -> int:
        """The time of the last observation; 0 if there is none."""
        return max((worker.end_ns for worker in self.workers), default=0)

    @cached_property
    def workers(self) -> Sequence[Worker]:
        """The recorded processes, in ascending order of their PIDs."""
        spans: dict[int, list[int]] = {}
        for group in (*self._durations, *self._sampled.values()):
            for number, part in group.parts.items():
                times = group.ends_ns[part]
                spans.setdefault(number, []).extend((int(times.min()), int(times.max())))
        return [
            Worker(number, *process, min(spans[number]), max(spans[number]))
            for number, process in enumerate(self._basis.durations.processes)
            if number in spans
        ]

    @cached_property
    def routes(self) -> Sequence[Durations]:
        """The durations of each label, with their outcomes; without times to the first byte."""
        found = {group.label: group for group in self._durations}
        names = [*found]
        of = roles(names)
        for name, base, outcome in zip(names, of.bases, of.outcomes, strict=True):
            if outcome >= 0:
                found[names[base]].outcomes[OUTCOMES[outcome]] = found[name]
        return [found[name] for name, is_part in zip(names, of.is_part, strict=True) if not is_part]

    @cached_property
    def _durations(self) -> Sequence[Durations]:
        return _by_label(self._basis.cells)

    @cached_property
    def _sampled(self) -> Mapping[str, Durations]:
        return {group.label: group for group in _by_label(Cells(self._basis.runtime))}

    def samples(self, label: str) -> Iterator[tuple[Worker, Samples]]:
        """Yield the runtime series of a label in each worker, sorted by time."""
        for worker in self.workers if label in self._sampled else ():
            found = self.samples_of(worker, label)
            if len(found.values):
                yield worker, found

    def samples_of(self, worker: Worker, label: str) -> Samples:
        """Return the runtime series of a label in one worker, sorted by time."""
        group = self._sampled.get(label)
        if group is None or worker.number not in group.parts:
            return Samples(np.empty(0, np.int64), np.empty(0))
        times, values = group.chosen(group.parts[worker.number])
        if np.all(times[1:] >= times[:-1]):
            return Samples(times, values)
        order = np.argsort(times, kind="stable")
        return Samples(times[order], values[order])

    @cached_property
    def drops(self) -> Mapping[tuple[Process, str], int]:
        """The number of dropped observations of each process and reason, as `dropped` has them."""
        found = self._db.dropped()
        return {
            (Process(int(pid), str(writer)), str(reason)): round(count)
            for (pid, writer, reason), count in zip(found.index, found.to_numpy(), strict=True)
            if count
        }

    def stalls_of(self, worker: Worker) -> Stalls | None:
        """Return when the event loop of a worker was blocked; None if no stall was recorded."""
        return self._stalls.get(worker.process)

    @cached_property
    def _stalls(self) -> Mapping[Process, Stalls]:
        return self._db.stalls_of_processes()

    @cached_property
    def stall_places(self) -> Sequence[StallPlace]:
        """The place of each stall, by its number."""
        found = self._db.stalls()
        return [
            StallPlace(*each)
            for each in zip(found["cause"], lines_of(found), found["function"], strict=True)
        ]

    def stalled_pids(self, place: StallPlace) -> list[int]:
        """Return the processes whose event loop was blocked at a place, in ascending order."""
        numbers = [at for at, each in enumerate(self.stall_places) if each == place]
        return sorted({int(pid) for pid in self._db.stalls()["pid"].iloc[numbers]})

    @cached_property
    def stall_lines(self) -> Sequence[Mapping[str, Any]]:
        """The rows of `TelemetryDB.stall_lines`, those with the most time first."""
        return [
            {str(name): value for name, value in row.items()}
            for row in self._db.stall_lines().to_dict("records")
        ]

    @cached_property
    def _states(self) -> Mapping[Process, Mapping[str, int]]:
        """The states of each process, and the last known time in it of each."""
        found: dict[Process, dict[str, int]] = {}
        writers = self._db.writers()
        ends = writers["end"].to_numpy().astype("datetime64[ns]").astype(np.int64)
        for (pid, writer), state, end_ns in zip(writers.index, writers["state"], ends, strict=True):
            process = Process(int(pid), str(writer)).named(self._basis.names)
            states = found.setdefault(process, {})
            states[state] = max(states.get(state, 0), int(end_ns))
        return found

    def state(self, worker: Worker) -> str:
        """Return whether a process was `stopped` or `killed`, is `running`, or is `unknown`."""
        states = self._states.get(worker.process, {})
        # A forked child has several writers, of which the last one knows its end.
        return next((state for state in (STOPPED, KILLED, RUNNING) if state in states), UNKNOWN)

    def killed_ns(self, worker: Worker) -> int | None:
        """Return when a process was killed, at the earliest; None if not in the loaded time."""
        if self.state(worker) != KILLED:
            return None
        at_ns = self._states[worker.process][KILLED]
        until_ns = self._db.until_ns
        return at_ns if until_ns is None or at_ns < until_ns else None

    @cached_property
    def switched_off(self) -> Sequence[Gap]:
        """The times in which recordings were switched off."""
        return [
            gap
            for worker, samples in self.samples(labels.SWITCHED_ON)
            for gap in _gaps(worker, samples)
        ]

    @cached_property
    def complete_until_ns(self) -> int:
        """The time until which requests would have been observed in all processes.

        A process that has not ended may have recorded more than it has published. After the last
        sample of all, processes wait for the end of their last requests.
        """
        unended = (RUNNING, UNKNOWN)
        unfinished = [each.end_ns for each in self.workers if self.state(each) in unended]
        sampled = [int(times[-1]) for _, (times, _) in self.samples(labels.USER_TIME)]
        return min([self.end_ns, *unfinished, *([max(sampled)] if sampled else [])])

    def known_ns(self, edges_ns: Floats) -> Integers:
        """Return how long at least one process recorded, between each two edges."""
        edges = edges_ns.astype(np.int64)
        spans = merged(*_bounds((each.begin_ns, each.end_ns) for each in self.workers))
        off = merged(*_bounds((each.begin_ns, each.end_ns) for each in self.switched_off))
        known: Integers = spans.overlap_ns(edges[:-1], edges[1:])
        return known - off.overlap_ns(edges[:-1], edges[1:])


def _by_label(cells: Cells) -> Sequence[Durations]:
    """Return observations by label, and within each label by process, without nan and inf."""
    times, values, counts = cells.timepoints_ns, cells.measurements, cells.counts
    if not np.isfinite(cells.sums).all() or not np.array_equal(cells.known, counts):
        usable = np.isfinite(values)
        counts = np.add.reduceat(usable, cells.begins, dtype=np.int64)
        times, values = times[usable], values[usable]
    ends = np.cumsum(counts).tolist()
    parts: dict[int, dict[int, slice]] = {}
    begin = 0
    for label, process, end in zip(
        cells.label_codes.tolist(), cells.process_codes.tolist(), ends, strict=True
    ):
        if begin < end:
            parts.setdefault(label, {})[process] = slice(begin, end)
        begin = end
    return [_group(cells.labels[code], own, times, values) for code, own in parts.items()]


def _group(label: str, parts: Mapping[int, slice], times: Integers, values: Floats) -> Durations:
    bounds = [*parts.values()]
    first = bounds[0].start
    rows = slice(first, bounds[-1].stop)
    own = {number: slice(at.start - first, at.stop - first) for number, at in parts.items()}
    return Durations(label, times[rows], values[rows], own)


def _gaps(worker: Worker, samples: Samples) -> Iterator[Gap]:
    begin_ns = None
    for at_ns, is_on in zip(*samples, strict=True):
        if not is_on:
            begin_ns = int(at_ns)
        elif begin_ns is not None:
            yield Gap(worker, begin_ns, int(at_ns), is_over=True)
            begin_ns = None
    if begin_ns is not None:
        yield Gap(worker, begin_ns, max(worker.end_ns, begin_ns), is_over=False)


def _bounds(spans: Iterable[tuple[int, int]]) -> tuple[Integers, Integers]:
    bounds = np.array([*spans], np.int64).reshape(-1, 2)
    return bounds[:, 0], bounds[:, 1]
