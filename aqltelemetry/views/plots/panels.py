"""Chooses what the panels of a plot show, from the strips; the drawing computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.strips import Strips
from aqltelemetry.views.strips.routes import RouteStrip
from aqltelemetry.views.strips.workers import WorkerStrip

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
_MS = 1000.0
_MIB = 1 << 20
_MAX_GAP = 5  # a line is interrupted where a value is missing for so many times the usual step


class Line(NamedTuple):
    """A line of a panel."""

    name: str
    times: Times
    values: Floats
    are_events: bool = False
    """Whether nothing lies between the values: each is an event of its own."""


class Bars(NamedTuple):
    """Values of each time bin."""

    name: str
    values: Floats


class Heat(NamedTuple):
    """How many durations of each time bin lie in each bucket."""

    edges_ms: Floats
    """h + 1 edges."""
    counts: Floats
    """h x bins numbers; NaN where there are none."""

    @property
    def largest(self) -> float:
        """The largest number, at least 2."""
        return float(np.nanmax(self.counts, initial=2))


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: one vertical axis over time."""

    title: str
    edges: Times
    """The edges of the time bins; one more than there are bins."""
    lines: Sequence[Line] = ()
    bars: Sequence[Bars] = ()
    heat: Heat | None = None

    @property
    def is_tall(self) -> bool:
        """Whether it needs more room than others."""
        return self.heat is not None


class Event(NamedTuple):
    """A vertical line over all panels."""

    at: np.datetime64
    kind: str


def panels(strips: Strips, *, with_overall: bool) -> list[Panel]:
    """Return the panels of routes, then those of workers.

    Args:
        strips: What to draw.
        with_overall: Begin with all requests together.
    """
    shown = [strips.overall] if with_overall else []
    routes = [panel for route in (*shown, *strips.routes) for panel in route_panels(strips, route)]
    return [*routes, *worker_panels(strips)]


def route_panels(strips: Strips, route: RouteStrip) -> list[Panel]:
    """Return the rate and the durations of a route."""
    return [rate_panel(strips, route), duration_panel(strips, route)]


def rate_panel(strips: Strips, route: RouteStrip) -> Panel:
    """Return how many observations there were per second, and how many of each error."""
    seconds = _recorded_s(strips)
    errors = [Bars(kind, counts / seconds) for kind, counts in route.errors.items()]
    return Panel(
        f"{route.label}: per second",
        _edges(strips),
        bars=[Bars("all", route.count / seconds), *errors],
    )


def duration_panel(strips: Strips, route: RouteStrip) -> Panel:
    """Return the heat map of durations, with their median and 99th percentile."""
    middles = _middles(strips)
    counts = route.heat.counts.T.astype(np.float64)
    return Panel(
        f"{route.label}: duration, ms",
        _edges(strips),
        [
            _line(name, middles, values * _MS)
            for name, values in (("p50", route.p50_s), ("p99", route.p99_s))
        ],
        heat=Heat(route.heat.edges_s * _MS, np.where(counts > 0, counts, np.nan)),
    )


_WORKER_PANELS: tuple[tuple[str, Callable[[WorkerStrip], Any], float], ...] = (
    ("p99 of all requests, ms", lambda worker: worker.p99_s, _MS),
    ("event loop lag, largest, ms", lambda worker: worker.lag_max_s, _MS),
    ("longest pause of the garbage collector, ms", lambda worker: worker.gc_pause_max_s, _MS),
    ("processor, % of one", lambda worker: worker.cpu_percent, 1),
    ("resident memory, MiB", lambda worker: worker.rss_bytes, 1 / _MIB),
    ("requests in flight, largest", lambda worker: worker.in_flight, 1),
)


def worker_panels(strips: Strips) -> Iterator[Panel]:
    """Yield a panel for each measurement of the workers that there is, with a line for each."""
    middles = _middles(strips)
    for title, values, factor in _WORKER_PANELS:
        lines = [
            _line(f"PID {worker.life.process.pid}", middles, values(worker) * factor)._replace(
                are_events="pause" in title
            )
            for worker in strips.workers
        ]
        known = [line for line in lines if len(line.values)]
        if any(np.nanmax(line.values) > 0 for line in known):
            yield Panel(f"workers: {title}", _edges(strips), known)


def events(strips: Strips) -> list[Event]:
    """Return the events that explain something: all but starts and stops."""
    return [
        Event(np.datetime64(mark.at_ns, "ns"), mark.kind)
        for mark in strips.marks
        if mark.kind not in {"start", "stop"}
    ]


def span(strips: Strips) -> tuple[np.datetime64, np.datetime64]:
    """Return the time that is drawn."""
    begin_ns, end_ns = strips.span
    return np.datetime64(begin_ns, "ns"), np.datetime64(end_ns, "ns")


def _edges(strips: Strips) -> Times:
    window = strips.window
    edges_ns = window.begin_ns + np.arange(window.bins + 1) * window.width_ns
    return edges_ns.astype("datetime64[ns]")


def _middles(strips: Strips) -> Times:
    edges = _edges(strips)
    return edges[:-1] + (edges[1:] - edges[:-1]) // 2


def _recorded_s(strips: Strips) -> Floats:
    """Return the seconds of each bin that lie in the drawn time."""
    edges_ns = _edges(strips).astype(np.int64)
    inside = np.clip(edges_ns, *strips.span)
    return np.maximum(np.diff(inside), 1) / NS_PER_S


def _line(name: str, times: Times, values: Floats) -> Line:
    """Return a line through the known values, interrupted where many are missing."""
    known = np.flatnonzero(np.isfinite(values))
    steps = np.diff(known)
    if len(steps):
        after = np.flatnonzero(steps > _MAX_GAP * np.median(steps)) + 1
        at = np.insert(known, after, known[after - 1] + 1)
        gaps = np.insert(np.zeros(len(known), bool), after, values=True)
        return Line(name, times[at], np.where(gaps, np.nan, values[at]))
    return Line(name, times[known], values[known])
