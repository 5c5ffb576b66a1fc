"""What is known of a worker at the time of its last observation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from aqltelemetry.reading.writers import RUNNING, UNKNOWN
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.buckets import Floats, Integers
from aqltelemetry.views.live.busy import BusyTime
from aqltelemetry.views.live.seconds import Span

_RSS, _IN_FLIGHT, _DROPPED = "rss", "requests in flight", "telemetry dropped "
_MIN_RECORDED_S = 1.0


class Requests(NamedTuple):
    """How many requests a worker handles, and when the oldest began, in ns since the epoch."""

    number: int
    oldest_ns: int | None


NO_REQUESTS: Mapping[str, Requests] = MappingProxyType({})


class Life(NamedTuple):
    """When a worker recorded, in nanoseconds since the epoch, and its state."""

    state: str
    begin_ns: int
    end_ns: int

    @property
    def may_run(self) -> bool:
        """Whether its last samples are the present ones."""
        return self.state in {RUNNING, UNKNOWN}


class Latest:
    """The latest samples of a worker, its first and last time, and when it was busy.

    `in_flight_since_ns` is the first of the samples that have equal numbers until the last one.
    """

    def __init__(self) -> None:
        self.rss_bytes: float | None = None
        self.in_flight: float | None = None
        self.in_flight_since_ns = 0
        self.busy = BusyTime()
        self._first_ns = 2**63 - 1
        self._last_ns = 0
        self._dropped: dict[str, float] = {}

    def see(self, begins_ns: Integers, ends_ns: Integers) -> None:
        """Note that it recorded at these times."""
        self._first_ns = min(self._first_ns, int(begins_ns.min()))
        self._last_ns = max(self._last_ns, int(ends_ns.max()))

    def sample(self, label: str, times_ns: Integers, values: Floats) -> None:
        """Note samples of a label, sorted by time."""
        if label == _RSS:
            self.rss_bytes = float(values[-1])
        elif label == _IN_FLIGHT:
            self._see_in_flight(times_ns, values)
        elif label.startswith(_DROPPED):
            self._dropped[label] = float(values[-1])

    def _see_in_flight(self, times_ns: Integers, values: Floats) -> None:
        last = float(values[-1])
        others = np.flatnonzero(values != last)
        if len(others):
            self.in_flight_since_ns = int(times_ns[others[-1] + 1])
        elif last != self.in_flight:
            self.in_flight_since_ns = int(times_ns[0])
        self.in_flight = last

    @property
    def dropped(self) -> int:
        """How many of its observations were dropped, by its last samples."""
        return round(sum(self._dropped.values()))

    def life(self, state: str, now_ns: int) -> Life:
        """Return when it recorded: until now if it is running."""
        end_ns = now_ns if state == RUNNING else self._last_ns
        return Life(state, self._first_ns, max(end_ns, self._last_ns))


def is_latest(label: str) -> bool:
    """Return whether `Latest.sample` uses a label."""
    return label in {_RSS, _IN_FLIGHT} or label.startswith(_DROPPED)


def recorded_s(lives: Iterable[Life], span: Span | None) -> float | None:
    """Return the seconds of a span, or of all time, in which one of several workers recorded.

    At least one second, as in a summary; None if none of them recorded then.
    """
    first, last = (
        (0, 2**63 - 1) if span is None else (span.begin_s * NS_PER_S, span.end_s * NS_PER_S)
    )
    total_ns, until_ns, is_any = 0, first, False
    for life in sorted(lives, key=lambda each: each.begin_ns):
        begin_ns, end_ns = max(life.begin_ns, until_ns), min(life.end_ns, last)
        is_any = is_any or (life.begin_ns < last and life.end_ns >= first)
        if end_ns > begin_ns:
            total_ns += end_ns - begin_ns
            until_ns = end_ns
    return max(total_ns / NS_PER_S, _MIN_RECORDED_S) if is_any else None
