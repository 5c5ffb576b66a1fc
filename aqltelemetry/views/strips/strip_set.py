"""Puts the strips of routes and workers over the same time bins together."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.views.strips.cells import Floats, Grid, Integers, Span, grid
from aqltelemetry.views.strips.durations import Durations, Grouping, count_inside
from aqltelemetry.views.strips.lives import Life, Recorded, recorded
from aqltelemetry.views.strips.marks import Mark, marks
from aqltelemetry.views.strips.routes import Routes, RouteStrip
from aqltelemetry.views.strips.rows import binned
from aqltelemetry.views.strips.stalls import StallStrip, stall_strip
from aqltelemetry.views.strips.workers import WorkerStrip, worker_strips

MAX_BINS = 400
"""How many time bins there are at most, by default."""
MAX_ROUTES = 12
"""How many routes have strips at most, by default."""
MAX_WORKERS = 16
"""How many workers have strips at most, by default."""
_MAX_SPARKLINES = 300
_NS_PER_MS = 10**6
_DIGITS = 5
_EXACT_POWER = 22
_FEW_BINS = 100
_PER_BIN = 20


@dataclass(frozen=True, slots=True)
class Strips:
    """What charts draw: series over the same time bins."""

    window: Grid
    """The bins."""
    span: Span
    """The time that is drawn, from within the first bin to within the last one."""
    overall: RouteStrip
    """All requests together, or all durations where no requests were recorded."""
    routes: Sequence[RouteStrip]
    """The busiest labels of durations, or those that were asked for."""
    routes_left_out: int
    """How many labels have no strip."""
    workers: Sequence[WorkerStrip]
    """The busiest processes, or those that were asked for."""
    workers_left_out: int
    """How many processes have no strip."""
    marks: Sequence[Mark]
    """Starts, ends and kills of processes, drops, clock steps, switches; by time."""
    stalls: StallStrip | None
    """What blocked event loops; None if no stall was recorded."""
    sparklines: Mapping[str, Integers]
    """By label, also of those without a strip: observations over time, at 40 points at most."""

    def as_dict(self) -> dict[str, Any]:
        """Return the strips as values for JSON.

        Times are milliseconds since the epoch. Other floats are rounded to five significant
        digits. None stands where nothing is known.
        """
        return {
            "version": 1,
            "begin_ms": self.window.begin_ns / _NS_PER_MS,
            "end_ms": self.window.end_ns / _NS_PER_MS,
            "bin_ms": self.window.width_ns / _NS_PER_MS,
            "bins": self.window.bins,
            "drawn_begin_ms": self.span.begin_ns / _NS_PER_MS,
            "drawn_end_ms": self.span.end_ns / _NS_PER_MS,
            "overall": _route(self.overall),
            "routes": [_route(route) for route in self.routes],
            "routes_left_out": self.routes_left_out,
            "workers": [_worker(worker) for worker in self.workers],
            "workers_left_out": self.workers_left_out,
            "marks": [_mark(mark) for mark in self.marks],
            "stalls": None if self.stalls is None else _stalls(self.stalls),
            "sparklines": {label: line.tolist() for label, line in self.sparklines.items()},
        }


def strips(  # noqa: PLR0913 - each has a default
    db: TelemetryDB,
    begin_ns: int | None = None,
    end_ns: int | None = None,
    bins: int = MAX_BINS,
    *,
    routes: int | Sequence[str] = MAX_ROUTES,
    workers: int | Sequence[Process] = MAX_WORKERS,
    also: Collection[str | int] = (),
    known: Recorded | None = None,
) -> Strips:
    """Return what charts draw between two times.

    Args:
        db: The recording.
        begin_ns: The first instant, in nanoseconds since the epoch; by default that of the
            recording.
        end_ns: The instant after the last one.
        bins: The largest number of time bins, of which there are fewer if there are few
            durations. Their width is a round one; see `cells.grid`.
        routes: The labels of durations that get strips, or the number of the busiest ones.
        workers: The processes that get strips, by PID and writer, or the number of the busiest.
        also: Labels and PIDs that get strips if they are not among the busiest ones.
        known: The result of `recorded(db)`, which saves time where it was computed before.

    Returns:
        The strips, whose percentiles are exact for each bin. A duration is in the bin that its
        end lies in.

    Example:
        >>> strips(db, bins=300).routes[0].p99_s
    """
    durations, runtime, lives, writers = known or recorded(db)
    span = _span(lives, begin_ns, end_ns)
    window = grid(span, _suitable(bins, durations, span))
    shown = _chosen(lives, workers, also)
    processes = [life.process for life in shown]
    found = Durations(durations, window, span)
    by_route = Routes(found.names, found.counts)
    labels = by_route.busiest(routes) if isinstance(routes, int) else list(routes)
    labels += sorted(by_route.occurring(set(also) - set(labels)))
    grouping = Grouping(
        by_route.are_requests(), by_route.numbers(labels), len(labels), processes, writers
    )
    cells = found.cells(grouping)
    of_workers = slice(1 + len(labels), None)
    samples = binned(runtime, window, span, processes, writers)
    return Strips(
        window,
        span,
        by_route.overall(cells),
        by_route.strips(labels, cells),
        by_route.labels - len(by_route.occurring(labels)),
        worker_strips(shown, cells.count[of_workers], cells.p99_s[of_workers], samples, window),
        len(lives) - len(shown),
        marks(db, lives, span),
        stall_strip(db, window, span),
        by_route.sparklines(by_route.busiest(_MAX_SPARKLINES)),
    )


def _span(lives: Sequence[Life], begin_ns: int | None, end_ns: int | None) -> Span:
    """Return the two times, those that are None from the first and the last known instant."""
    if begin_ns is None:
        begin_ns = min((life.begin_ns for life in lives), default=0)
    if end_ns is None:
        end_ns = max((life.end_ns + 1 for life in lives), default=begin_ns + 1)
    return Span(begin_ns, max(end_ns, begin_ns + 1))


def _suitable(bins: int, durations: Sequence[Rows], span: Span) -> int:
    """Return a number of bins of which few have fewer than some durations."""
    return max(min(bins, max(_FEW_BINS, count_inside(durations, span) // _PER_BIN)), 1)


def _chosen(
    lives: Sequence[Life], workers: int | Sequence[Process], also: Collection[str | int]
) -> list[Life]:
    if isinstance(workers, int):
        return [life for n, life in enumerate(lives) if n < workers or life.process.pid in also]
    by_process = {life.process: life for life in lives}
    return [by_process[process] for process in workers if process in by_process]


def _route(route: RouteStrip) -> dict[str, Any]:
    errors = sum(route.errors.values(), np.zeros_like(route.count))
    return {
        "label": route.label,
        "count": route.count.tolist(),
        "p50_s": _floats(route.p50_s),
        "p90_s": _floats(route.p90_s),
        "p99_s": _floats(route.p99_s),
        "max_s": _floats(route.max_s),
        "errors": errors.tolist(),
        "errors_by_kind": {kind: counts.tolist() for kind, counts in route.errors.items()},
        "totals": {name: _rounded(value, 9) for name, value in asdict(route.totals).items()},
        "heat": {"edges_s": _floats(route.heat.edges_s, 9), "counts": route.heat.counts.tolist()},
    }


def _worker(worker: WorkerStrip) -> dict[str, Any]:
    series = ("p99_s", "lag_max_s", "gc_pause_s", "gc_pause_max_s", "cpu_percent")
    return {
        "pid": worker.life.process.pid,
        "writer": worker.life.process.writer,
        "state": worker.life.state,
        "begin_ms": worker.life.begin_ns / _NS_PER_MS,
        "end_ms": worker.life.end_ns / _NS_PER_MS,
        "count": worker.count.tolist(),
        **{name: _floats(getattr(worker, name)) for name in series},
        "rss_bytes": _floats(worker.rss_bytes, 15),
        "in_flight": _floats(worker.in_flight, 15),
    }


def _stalls(found: StallStrip) -> dict[str, Any]:
    return {
        "causes": {cause: _floats(seconds) for cause, seconds in found.blocked_s.items()},
        "listed": [_stall(each) for each in found.listed],
        "left_out": found.left_out,
    }


def _stall(stall: Mapping[str, Any]) -> dict[str, Any]:
    times = {f"{name}_ms": stall[f"{name}_ns"] / _NS_PER_MS for name in ("begin", "end")}
    return times | {name: value for name, value in stall.items() if not name.endswith("_ns")}


def _mark(mark: Mark) -> dict[str, Any]:
    at_ms = mark.at_ns / _NS_PER_MS
    return {"at_ms": at_ms, "kind": mark.kind, "pid": mark.pid, "text": mark.text}


def _floats(values: Floats, digits: int = _DIGITS) -> list[float | int | None]:
    """Return numbers with so many significant digits, None instead of NaN; whole ones as int."""
    return [_as_json(value) for value in _rounded_all(values, digits).tolist()]


def _rounded_all(values: Floats, digits: int) -> Floats:
    """Round to so many significant digits, all at once."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        last = np.floor(np.log10(np.abs(values))) - (digits - 1)
        is_usual = np.abs(last) <= _EXACT_POWER
        scale = 10.0 ** np.abs(np.where(is_usual, last, 0.0))
        # Powers of ten up to 22 are exact, so that a division gives the nearest number.
        small, large = np.rint(values * scale) / scale, np.rint(values / scale) * scale
    return np.where(is_usual, np.where(last < 0, small, large), values)


def _as_json(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def _rounded(value: float, digits: int) -> float | int | None:
    return _as_json(float(f"{value:.{digits}g}"))
