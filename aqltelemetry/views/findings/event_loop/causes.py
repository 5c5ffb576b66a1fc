"""Finds when a worker did something that requests wait for, and says what it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from aqltelemetry.quantities import counted
from aqltelemetry.reading.stalls.intervals import Integers, Intervals, merged
from aqltelemetry.reading.stalls.overlaps import Stalls
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import labels, wording
from aqltelemetry.views.findings.event_loop.holders import Holder, holder, lag_intervals
from aqltelemetry.views.findings.recorded import Recorded, StallPlace, Worker

MIN_PAUSE_S = 0.001
"""Shorter collections are not looked at."""
FULL_PERCENT = 95.0
"""A thread that uses a whole processor shows between 95 and 100 %, since clocks tick."""
MAX_LINES = 8
"""How many lines are looked at, those with the most time: others block for a small part of it."""
MIN_IN_BLOCK = 0.5
"""Which part of the time of a stall a block must take to be named with it."""
_STALLS = "stalls"
_HINT = "; the option `with_stalls` records the cause and the line"


class Cause(NamedTuple):
    """Something that requests wait for.

    Attributes:
        name: Distinguishes the causes of a worker.
        text: What it was, as the object of "overlap", with the longest time.
        intervals: When it was there.
        longest_s: The longest time.
        block: The label of the block or request that it is; "" if it is none.
    """

    name: str
    text: str
    intervals: Intervals
    longest_s: float
    block: str = ""


def causes(recorded: Recorded, worker: Worker) -> Iterator[Cause]:
    """Yield the causes in a worker, the most specific first; each occurs."""
    for cause in _causes(recorded, worker):
        if len(cause.intervals.begins_ns):
            yield cause


def _causes(recorded: Recorded, worker: Worker) -> Iterator[Cause]:
    stalls = recorded.stalls_of(worker)
    block = holder(recorded, worker)
    yield _collections(recorded, worker, stalls)
    if stalls is not None:
        yield from _stalls(recorded, stalls, block)
    if block is not None:
        longest = wording.duration(block.longest_s)
        text = f"`{block.label}`, which held its event loop for up to {longest}"
        text += _detail(recorded, stalls, block.intervals)
        yield Cause(block.label, text, block.intervals, block.longest_s, block.label)
    lags, longest_s = lag_intervals(recorded, worker)
    text = f"times in which its event loop was held, for up to {wording.duration(longest_s)}"
    text += _detail(recorded, stalls, lags)
    yield Cause(labels.EVENT_LOOP_LAG, text, lags, longest_s)
    yield _full_processor(recorded, worker)


def _collections(recorded: Recorded, worker: Worker, stalls: Stalls | None) -> Cause:
    times, pauses = recorded.samples_of(worker, labels.GC_PAUSE)
    long = pauses >= MIN_PAUSE_S
    ends, lengths = times[long], pauses[long]
    intervals = merged(ends - (lengths * NS_PER_S).astype(np.int64), ends)
    longest_s = float(lengths.max(initial=0))
    text = f"pauses of the garbage collector of up to {wording.duration(longest_s)}"
    if stalls is not None:
        text += _detail(recorded, stalls, intervals)
    return Cause(labels.GC_PAUSE, text, intervals, longest_s)


def _full_processor(recorded: Recorded, worker: Worker) -> Cause:
    times, percent = recorded.samples_of(worker, labels.CPU_PERCENT)
    full = np.flatnonzero(percent[1:] >= FULL_PERCENT)
    intervals = merged(times[full], times[full + 1])
    longest_ns = (intervals.ends_ns - intervals.begins_ns).max(initial=0)
    text = "times in which the process used a whole processor"
    return Cause(labels.CPU_PERCENT, text, intervals, float(longest_ns) / NS_PER_S)


def _stalls(recorded: Recorded, stalls: Stalls, block: Holder | None) -> Iterator[Cause]:
    """Yield the stalls at each line, and then all of them together."""
    places = _places(recorded, stalls)
    for place, own in places[:MAX_LINES]:
        yield _of_stalls(f"{_STALLS} {place}", wording.stall(*place), own, block)
    if len(places) > 1:
        others = counted(len(places) - 1, "other place")
        most = f"{wording.stall(*places[0][0])}, and {others}"
        yield _of_stalls(_STALLS, most, stalls, block)


def _of_stalls(name: str, what: str, stalls: Stalls, block: Holder | None) -> Cause:
    longest_s = float((stalls.ends_ns - stalls.begins_ns).max()) / NS_PER_S
    intervals = stalls.intervals
    text = f"stalls of its event loop of up to {wording.duration(longest_s)}: {what}"
    if block is not None:
        inside = block.intervals.overlap_ns(intervals.begins_ns, intervals.ends_ns).sum()
        text += f", within `{block.label}`" if inside >= MIN_IN_BLOCK * intervals.total_ns else ""
    return Cause(name, text, intervals, longest_s)


def _places(recorded: Recorded, stalls: Stalls) -> list[tuple[StallPlace, Stalls]]:
    """Return the stalls by cause and line, those with the most time first."""
    numbers: dict[StallPlace, list[int]] = {}
    for at, number in enumerate(stalls.numbers.tolist()):
        numbers.setdefault(recorded.stall_places[number], []).append(at)
    found = [(place, stalls.chosen(np.array(of))) for place, of in numbers.items()]
    found.sort(key=lambda each: -int((each[1].ends_ns - each[1].begins_ns).sum()))
    return found


def _detail(recorded: Recorded, stalls: Stalls | None, intervals: Intervals) -> str:
    """Return what was recorded of the stalls within some intervals, or how to record it."""
    if stalls is None:
        return _HINT
    taken: dict[StallPlace, int] = {}
    overlaps = intervals.overlap_ns(stalls.begins_ns, stalls.ends_ns)
    for number, overlap_ns in _nonzero(stalls.numbers, overlaps):
        place = recorded.stall_places[number]
        taken[place] = taken.get(place, 0) + overlap_ns
    if not taken:
        return ""
    return f", by {wording.stall(*max(taken, key=lambda place: taken[place]))}"


def _nonzero(numbers: Integers, overlaps_ns: Integers) -> Iterator[tuple[int, int]]:
    hit = overlaps_ns > 0
    yield from zip(numbers[hit].tolist(), overlaps_ns[hit].tolist(), strict=True)
