"""Time: the only module that reads clocks or sleeps.

Durations and record times come from the monotonic clock. An *anchor*, a pair of a monotonic
time and the offset of the epoch at that time, converts them into timepoints. A running monitor
renews its anchor about once a second.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aqltelemetry.system.unpatched import native

monotonic_ns = time.perf_counter_ns
"""Read the monotonic clock, in nanoseconds from an arbitrary start."""
epoch_ns = time.time_ns
"""Read the wall clock, in nanoseconds since the epoch."""
thread_cpu_ns = time.thread_time_ns
"""Read the processor time of this thread, in nanoseconds."""

NS_PER_S = 1_000_000_000
"""Nanoseconds per second."""
CLOCK_STEP_NS = 50_000_000
"""Anchors that differ by more than this show a clock step or a suspended machine."""
_BREATH_S = 50e-6
_TRUSTED_STEP_NS = 3600 * NS_PER_S


class Anchor(NamedTuple):
    """From `at_ns` (monotonic) on, the epoch is `offset_ns` ahead of the monotonic clock."""

    at_ns: int
    offset_ns: int


def read_anchor() -> Anchor:
    """Return an anchor: both clocks, read as close together as possible."""
    before = monotonic_ns()
    epoch = epoch_ns()
    after = monotonic_ns()
    middle = (before + after) // 2
    return Anchor(after, epoch - middle)


def follow(previous: Anchor, measured: Anchor) -> Anchor:
    """Return the anchor to use next, so that timepoints never run backwards.

    A step forward of the wall clock is followed at once. A step back is followed at half
    speed: by at most half of the time since the previous anchor, so that timepoints stay in
    order (see `to_epoch`) and distinct.
    """
    allowed = previous.offset_ns - (measured.at_ns - previous.at_ns) // 2
    return Anchor(measured.at_ns, max(measured.offset_ns, allowed))


def to_epoch(times_ns: Sequence[int], anchors: Sequence[Anchor]) -> list[int]:
    """Convert monotonic times into timepoints by `anchors`, which are sorted by time.

    Each time is converted by the last anchor at or before it; times before all anchors by the
    first. After an anchor that sets time back, timepoints stay at the last one of the anchor
    before until time has caught up, so that order is kept.
    """
    if not times_ns:
        return []
    first = max(bisect_right(anchors, (min(times_ns), _LAST)) - 1, 0)
    last = max(bisect_right(anchors, (max(times_ns), _LAST)) - 1, 0)
    if first == last:
        return _shift(times_ns, anchors, first)
    return [
        _shift((at_ns,), anchors, max(bisect_right(anchors, (at_ns, _LAST)) - 1, 0))[0]
        for at_ns in times_ns
    ]


_LAST = 2**63


def _shift(times_ns: Iterable[int], anchors: Sequence[Anchor], index: int) -> list[int]:
    offset = anchors[index].offset_ns
    if index == 0 or anchors[index - 1].offset_ns <= offset:
        return [at_ns + offset for at_ns in times_ns]
    floor = anchors[index].at_ns + anchors[index - 1].offset_ns
    return [max(at_ns + offset, floor) for at_ns in times_ns]


class AgeClock:
    """The wall clock by which the ages of files are computed, guarded against wrong steps.

    If the wall clock is set forward, all files seem old at once, and retention would remove
    them. So this clock follows the wall clock by at most one hour more than the time that has
    passed on the monotonic clock since this object was made.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = epoch_ns, passed_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._passed_ns = passed_ns
        self._offset_ns = wall_ns() - passed_ns()

    def __call__(self) -> int:
        """Return the time from which ages are computed, in nanoseconds since the epoch."""
        latest_ns = self._passed_ns() + self._offset_ns + _TRUSTED_STEP_NS
        return min(self._wall_ns(), latest_ns)


def utc(at_ns: int) -> str:
    """Return a timepoint as ISO 8601 text in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ns // NS_PER_S))


def yield_gil() -> None:
    """Let other threads have the interpreter lock.

    A sleep of zero seconds would mostly take the lock back before a waiting thread has woken
    up, so this sleeps for about as long as that takes.
    """
    native("time", "sleep")(_BREATH_S)


def pause(seconds: float) -> None:
    """Block this thread and all its greenlets; never call it on an event loop's thread."""
    native("time", "sleep")(seconds)
