"""Finds the block that holds the event loop of a worker."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aqltelemetry.reading.stalls.intervals import Intervals, merged
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import labels
from aqltelemetry.views.findings.recorded import Durations, Recorded, Worker

MIN_LAG_S = 0.01
"""Shorter lags are noise of timers and of the scheduler."""
MIN_HELD = 0.5
"""Which part of the lags a block must overlap, and which part of its time must be lags. A lag is
measured from the tick that was due, so up to a tenth of a second of the block precedes it."""
MIN_RUNS = 3
"""How often the block must have held the loop."""


class Holder(NamedTuple):
    """A block that holds the event loop: its label, how often, how long at most, and when."""

    label: str
    runs: int
    longest_s: float
    intervals: Intervals


def lag_intervals(recorded: Recorded, worker: Worker) -> tuple[Intervals, float]:
    """Return the times in which the loop was late by 10 ms or more, and the longest in seconds."""
    times, late = recorded.samples_of(worker, labels.EVENT_LOOP_LAG)
    long = late >= MIN_LAG_S
    ends, lengths = times[long], late[long]
    begins = ends - (lengths * NS_PER_S).astype(np.int64)
    return merged(begins, ends), float(lengths.max(initial=0))


def holder(recorded: Recorded, worker: Worker) -> Holder | None:
    """Return the block, or request, that holds the event loop of a worker.

    It overlaps at least half of the time in which the loop was late, and at least half of its
    own time is such. Requests that wait for the loop overlap these times too, but most
    of their time is spent otherwise. Of several blocks, the shortest is the innermost one.
    """
    lags, _ = lag_intervals(recorded, worker)
    best: tuple[float, Holder] | None = None
    for route in recorded.routes if lags.total_ns else ():
        own = route.of(worker.number)
        if len(own) and not route.is_connection:
            total_s, found = _held(own, lags)
            if found is not None and (best is None or total_s < best[0]):
                best = total_s, found
    return best[1] if best else None


def _held(own: Durations, lags: Intervals) -> tuple[float, Holder | None]:
    long = own.seconds >= MIN_LAG_S
    begins_ns, ends_ns = own.begins_ns[long], own.ends_ns[long]
    overlap_ns = lags.overlap_ns(begins_ns, ends_ns)
    held = overlap_ns > 0
    runs = int(np.count_nonzero(held))
    total_s = float(own.seconds.sum())
    if runs < MIN_RUNS or overlap_ns.sum() < MIN_HELD * total_s * NS_PER_S:
        return total_s, None
    during = merged(begins_ns[held], ends_ns[held])
    of_lags = int(during.overlap_ns(lags.begins_ns, lags.ends_ns).sum())
    if of_lags < MIN_HELD * lags.total_ns:
        return total_s, None
    longest_s = float(own.seconds[long][held].max())
    return total_s, Holder(own.label, runs, longest_s, during)
