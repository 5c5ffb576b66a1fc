"""Synthetic recordings for tests: steady ones, and ones with one planted fault.

`steady(seed)` has the irregularities of a healthy service: heavy tails, bursts of requests, a
slow start, collections, noisy processors, workers that start late, a slow trend.
`planted(kind, seed)` adds a fault of a kind in `KINDS` and says in `fault` where it is.
`Recording(...)` starts an empty one, to which workers, routes and samples can be added.
`write` writes the files that the CSV sink would have published, in some 10 ms.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import (
    ACCOUNT,
    CSV_HEADER,
    DURATION,
    RUNTIME,
    STALL,
    Batch,
    Column,
    Dropped,
    Kind,
    SegmentAccount,
    SegmentId,
    Series,
)
from aqltelemetry.sinks.account import AccountBuilder
from aqltelemetry.sinks.csv_rows import Block, format_batch, joined
from aqltelemetry.sinks.file_names import FileName, enclosing
from fakes import EPOCH_NS
from stalled import detail, write_details

Floats: TypeAlias = npt.NDArray[Any]
_NS = 1e9
MIB = 1 << 20
_MAX_FILE_BYTES = 1 << 40
_PIDS = 4000
SAMPLE_S = 1.0
"""Time between two samples of the runtime series."""
TICK_S = 0.1
"""Time between two ticks of `event loop lag`."""


@dataclass(frozen=True)
class Route:
    """A route or a block: its label, its rate in each worker, and its durations.

    Durations are log-normal: `median_s`, and the standard deviation `sigma` of their logarithm.
    A share `tail` of them is longer, by a factor with a Pareto distribution. `outcomes` are the
    shares of requests with one more observation `<label> <outcome>`. `block` is the label of a
    block in each request, which takes most of its time.
    """

    label: str
    per_s: float = 20.0
    median_s: float = 0.02
    sigma: float = 0.4
    tail: float = 0.0
    outcomes: Mapping[str, float] = field(default_factory=dict)
    block: str = ""


@dataclass(frozen=True)
class Fault:
    """A planted fault: the rule that should find it, and where it is, in seconds from the start."""

    rule: str
    begin_s: float
    end_s: float
    label: str | None = None
    pid: int | None = None
    cause: str = ""


@dataclass
class Requests:
    """The requests of a route in one worker; times in seconds from the recording's start."""

    route: Route
    begin_s: Floats
    seconds: Floats

    @property
    def end_s(self) -> Floats:
        """When each request ended."""
        return self.begin_s + self.seconds

    def scale(self, factor: float, begin_s: float, end_s: float) -> None:
        """Multiply the durations of the requests that begin within a time."""
        within = (self.begin_s >= begin_s) & (self.begin_s < end_s)
        self.seconds = np.where(within, self.seconds * factor, self.seconds)

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """Remove the requests that are not chosen."""
        self.begin_s, self.seconds = self.begin_s[chosen], self.seconds[chosen]

    def hold(self, begin_s: float, end_s: float) -> None:
        """Let no request that is in progress then end before `end_s`."""
        held = (self.begin_s < end_s) & (self.end_s > begin_s)
        self.seconds = np.where(held, np.maximum(self.seconds, end_s - self.begin_s), self.seconds)


class Worker:
    """One recorded process; `state` is stopped, killed or running."""

    def __init__(self, pid: int, begin_s: float, end_s: float, rng: np.random.Generator) -> None:
        self.pid = pid
        self.writer = rng.bytes(8).hex()
        self.begin_s = begin_s
        self.end_s = end_s
        self.state = "stopped"
        self.drops: dict[str, tuple[int, float]] = {}
        self.requests: list[Requests] = []
        self.samples: dict[str, tuple[Floats, Floats]] = {}
        self.stalls: list[tuple[float, float, str, int]] = []
        self._rng = rng
        self._durations: dict[str, list[tuple[Floats, Floats]]] = defaultdict(list)
        self._more: dict[tuple[str, str], list[tuple[Floats, Floats]]] = defaultdict(list)

    def serve(self, route: Route, per_s: Callable[[Floats], Floats] | None = None) -> Requests:
        """Add requests of a route; `per_s` is the rate at a time, by default the route's."""
        seconds = np.arange(int(self.begin_s), max(int(self.end_s), int(self.begin_s) + 1))
        rate = np.full(len(seconds), route.per_s) if per_s is None else per_s(seconds + 0.5)
        counts = self._rng.poisson(np.maximum(rate, 0))
        starts = np.sort(np.repeat(seconds, counts) + self._rng.random(counts.sum()))
        starts = starts[(starts >= self.begin_s) & (starts < self.end_s)]
        lengths = route.median_s * np.exp(self._rng.normal(0, route.sigma, len(starts)))
        in_tail = self._rng.random(len(starts)) < route.tail
        lengths[in_tail] *= 1 + 2 * self._rng.pareto(2.5, in_tail.sum())
        self.requests.append(Requests(route, starts, lengths))
        return self.requests[-1]

    def hold(self, begin_s: float, length_s: float, label: str = "", sample: str = "") -> None:
        """Run something on the event loop: requests and ticks wait until its end.

        It is a duration with the label `label`, if there is one, and an observation of the
        runtime series `sample`, if there is one.
        """
        end_s = begin_s + length_s
        for requests in self.requests:
            requests.hold(begin_s, end_s)
        times, late = self.samples.get("event loop lag", (np.empty(0), np.empty(0)))
        due = times - late
        held = (due >= begin_s) & (due < end_s)
        if held.any():
            first = int(np.flatnonzero(held)[0])
            times[first], late[first] = end_s, end_s - due[first]
            held[first] = False
            self.samples["event loop lag"] = times[~held], late[~held]
        if label:
            self._durations[label].append((np.array([end_s]), np.array([length_s])))
        if sample:
            self.observe(RUNTIME, sample, [end_s], [length_s])

    def block(
        self, begin_s: float, length_s: float, cause: str, line: int, label: str = ""
    ) -> None:
        """Run something on the event loop, as `hold`, and record it as a stall at this line."""
        self.hold(begin_s, length_s, label)
        self.observe(STALL, cause, [begin_s + length_s], [length_s])
        self.stalls.append((begin_s, length_s, cause, line))

    def observe(
        self, prefix: str, label: str, times_s: npt.ArrayLike, values: npt.ArrayLike
    ) -> None:
        """Add observations of a series."""
        series = self._durations[label] if prefix == DURATION else self._more[prefix, label]
        series.append((np.asarray(times_s, float), np.asarray(values, float)))

    def sample(self, label: str, values: Callable[[Floats], Floats]) -> None:
        """Add a sample each second; `values` gives them by time, in seconds from the start."""
        times = np.arange(self.begin_s + SAMPLE_S, self.end_s + 0.01, SAMPLE_S)
        times = times + self._rng.uniform(0, 0.005)
        self.samples[label] = times, np.asarray(values(times), float)

    def die(self, at_s: float) -> None:
        """Kill the worker: nothing after that time is recorded."""
        self.state, self.end_s = "killed", at_s
        for requests in self.requests:
            requests.keep(requests.end_s <= at_s)
        for label, (times, values) in self.samples.items():
            self.samples[label] = times[times <= at_s], values[times <= at_s]
        for parts in (*self._durations.values(), *self._more.values()):
            parts[:] = [(times[times <= at_s], values[times <= at_s]) for times, values in parts]

    def in_flight(self, times_s: Floats) -> Floats:
        """Return how many requests are in progress at each time."""
        count = np.zeros(len(times_s))
        for each in self.requests:
            count += np.searchsorted(np.sort(each.begin_s), times_s, "right")
            count -= np.searchsorted(np.sort(each.end_s), times_s, "right")
        return count

    def columns(self) -> dict[tuple[str, str], tuple[Floats, Floats]]:
        """Return times, in seconds from the start, and values of each series, sorted by time."""
        found: dict[tuple[str, str], list[tuple[Floats, Floats]]] = defaultdict(list)
        for requests in self.requests:
            self._add_requests(requests, found)
        for label, parts in self._durations.items():
            found[DURATION, label] += parts
        for label, part in self.samples.items():
            found[RUNTIME, label].append(part)
        for series, parts in self._more.items():
            found[series] += parts
        return {
            series: _in_order(parts) for series, parts in found.items() if _in_order(parts)[0].size
        }

    def _add_requests(self, requests: Requests, found: dict[tuple[str, str], Any]) -> None:
        route, rng = requests.route, self._rng
        found[DURATION, route.label].append((requests.end_s, requests.seconds))
        if route.block:
            rest = rng.uniform(0.02, 0.08, len(requests.seconds)) * route.median_s
            inner = np.maximum(requests.seconds - rest, requests.seconds * 0.5)
            found[DURATION, route.block].append((requests.end_s - rest / 4, inner))
        for outcome, share in route.outcomes.items():
            chosen = rng.random(len(requests.seconds)) < share
            part = requests.end_s[chosen], requests.seconds[chosen]
            found[DURATION, f"{route.label} {outcome}"].append(part)


def _in_order(parts: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    times = np.concatenate([part[0] for part in parts])
    values = np.concatenate([part[1] for part in parts])
    order = np.argsort(times, kind="stable")
    return times[order], values[order]


class Recording:
    """A recording of `seconds`, from `begin_ns` since the epoch, with any number of workers."""

    def __init__(self, seconds: float, seed: int = 0, begin_ns: int = EPOCH_NS) -> None:
        self.seconds = seconds
        self.begin_ns = begin_ns
        self.rng = np.random.default_rng(seed)
        self.workers: list[Worker] = []
        self.fault: Fault | None = None

    def add_worker(self, begin_s: float = 0.0, end_s: float | None = None) -> Worker:
        """Add a worker, by default for the whole time."""
        end_s = self.seconds if end_s is None else end_s
        pid = _PIDS + len(self.workers)
        self.workers.append(
            Worker(pid, begin_s, end_s, np.random.default_rng(self.rng.spawn(1)[0]))
        )
        return self.workers[-1]

    def ns(self, at_s: float) -> int:
        """Return a time in seconds from the start as nanoseconds since the epoch."""
        return self.begin_ns + round(at_s * _NS)

    def write(self, directory: Path) -> Path:
        """Write all files as the CSV sink publishes them; return the directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for worker in self.workers:
            self._write(directory, worker)
            self._write_details(directory, worker)
        return directory

    def _write_details(self, directory: Path, worker: Worker) -> None:
        lines = [
            detail(
                length_s,
                cause,
                begin_ns=self.ns(begin_s),
                end_ns=self.ns(begin_s + length_s),
                pid=worker.pid,
                writer=worker.writer,
                user={"file": "/srv/orders/app.py", "line": line, "function": "view", "votes": 1.0},
            )
            for begin_s, length_s, cause, line in worker.stalls
        ]
        if lines:
            write_details(directory, *lines, writer=worker.writer)

    def _write(self, directory: Path, worker: Worker) -> None:
        series = worker.columns()
        columns = [
            self._column(prefix, label, *data) for (prefix, label), data in sorted(series.items())
        ]
        segment = SegmentId(worker.writer, 1)
        account = SegmentAccount(
            accepted=sum(len(column.values) for column in columns),
            before=0,
            dropped=[
                Dropped(reason, total, self.ns(at_s))
                for reason, (total, at_s) in worker.drops.items()
            ],
            is_last=worker.state != "running",
            in_order=worker.state == "stopped",
            at_ns=self.ns(worker.end_s),
        )
        batch = Batch(segment, worker.pid, _MAX_FILE_BYTES, columns, account=account)
        texts = format_batch(batch)
        for prefix, blocks in texts.items():
            self._publish(directory, worker, prefix, blocks)
        accounts = AccountBuilder()
        accounts.add(account, texts)
        block = accounts.block(worker.pid, Counter(list(texts)), 0)
        if block is not None:
            self._publish(directory, worker, ACCOUNT, [block])

    def _column(self, prefix: str, label: str, times_s: Floats, values: Floats) -> Column:
        times_ns = self.begin_ns + np.round(times_s * _NS).astype(np.int64)
        if prefix != DURATION:
            series = Series(prefix, label, Kind.FLOAT)
            return Column(series, array("q", times_ns.tobytes()), array("d", values.tobytes()))
        lengths_ns = np.round(values * _NS).astype(np.int64)
        series = Series(prefix, label, Kind.NANOSECONDS)
        return Column(series, array("q", times_ns.tobytes()), array("q", lengths_ns.tobytes()))

    @staticmethod
    def _publish(directory: Path, worker: Worker, prefix: str, blocks: Sequence[Block]) -> None:
        first, last = min(block.from_ns for block in blocks), max(block.to_ns for block in blocks)
        name = FileName(prefix, *enclosing(first, last), worker.pid, worker.writer, 1, 1, 0)
        (directory / str(name)).write_bytes(CSV_HEADER + b"".join(joined(blocks)))
