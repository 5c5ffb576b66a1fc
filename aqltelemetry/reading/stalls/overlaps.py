"""Finds what a process did while its durations lasted: collections, and stalls of its event loop.

A duration lasts from its timepoint, which is its end, minus its length to its timepoint. A pause of
the collector does too. A stall lasts from `begin` to `end` of `TelemetryDB.stalls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.reading.stalls.intervals import Integers, Intervals, merged
from aqltelemetry.reading.stalls.joined import texts
from aqltelemetry.reading.summaries.recorded_time import lengths_ns
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.later import pd

SAME = 0.9
"""Which part of a request and of a stall on a thread they have in common, if they are the same."""
GC_PAUSE = "gc pause"
"""The label of the pauses of the garbage collector, in the prefix `runtime`."""
_Floats: TypeAlias = npt.NDArray[np.float64]


class Stalls(NamedTuple):
    """The stalls of a process, in order of their begins; `numbers` are their rows.

    `latest_ns` is the latest end of each one and those before it: loops of a process may be blocked
    at the same time.
    """

    begins_ns: Integers
    ends_ns: Integers
    latest_ns: Integers
    numbers: Integers

    @property
    def intervals(self) -> Intervals:
        """When the event loop, or one of several, was blocked."""
        return merged(self.begins_ns, self.ends_ns)

    def chosen(self, mask: Any) -> Stalls:
        """Return some stalls."""
        ends_ns = self.ends_ns[mask]
        latest_ns = np.maximum.accumulate(ends_ns)
        return Stalls(self.begins_ns[mask], ends_ns, latest_ns, self.numbers[mask])

    def near(self, begins_ns: Integers, ends_ns: Integers) -> tuple[Integers, Integers]:
        """Return for each span of time the first stall that may overlap it, and the one after."""
        first = np.searchsorted(self.latest_ns, begins_ns, "right")
        return first, np.searchsorted(self.begins_ns, ends_ns, "left")

    def overlap(self, begins_ns: Integers, ends_ns: Integers) -> npt.NDArray[np.bool_]:
        """Return for each span of time whether a stall overlaps it."""
        # The first stall with a later latest end than those before ends at that time itself.
        first, after = self.near(begins_ns, ends_ns)
        found: npt.NDArray[np.bool_] = first < after
        return found

    def longest(self, begin_ns: int, end_ns: int) -> int:
        """Return the number of the stall that overlaps a span of time for longest; -1 for none."""
        first = int(np.searchsorted(self.latest_ns, begin_ns, "right"))
        last = int(np.searchsorted(self.begins_ns, end_ns, "left"))
        if first >= last:
            return -1
        ends_ns = np.minimum(self.ends_ns[first:last], end_ns)
        lengths = ends_ns - np.maximum(self.begins_ns[first:last], begin_ns)
        at = int(np.argmax(lengths))
        return int(self.numbers[first + at]) if lengths[at] > 0 else -1


def stalls_by_process(
    stalls: pd.DataFrame, writers: Mapping[str, str], *, of_requests: bool = False
) -> Mapping[Process, Stalls]:
    """Return the stalls of each process; `writers` replaces those of forked children.

    Those of event loops, or, with `of_requests`, those of requests on threads.
    """
    is_wanted = (stalls["in_thread"] != "").to_numpy() == of_requests
    begins_ns = stalls["begin"].to_numpy("datetime64[ns]").view(np.int64)
    ends_ns = stalls["end"].to_numpy("datetime64[ns]").view(np.int64)
    rows: dict[Process, list[int]] = {}
    for number, process in enumerate(zip(stalls["pid"], stalls["writer"], strict=True)):
        if is_wanted[number]:
            rows.setdefault(Process(*process).named(writers), []).append(number)
    found = {}
    for process, of in rows.items():
        numbers = np.array(of, np.int64)
        numbers = numbers[np.argsort(begins_ns[numbers], kind="stable")]
        own_ns = ends_ns[numbers]
        found[process] = Stalls(begins_ns[numbers], own_ns, np.maximum.accumulate(own_ns), numbers)
    return found


class Overlaps:
    """What the processes of a recording did while their durations lasted.

    Args:
        runtime: The observations of the built-in samplers.
        stalls: Returns the stalls, as `TelemetryDB.stalls` does.
        writers: Replaces the writers of forked children; see `Basis.names`.
    """

    def __init__(
        self, runtime: Rows, stalls: Callable[[], pd.DataFrame], writers: Mapping[str, str]
    ) -> None:
        self._runtime = runtime
        self._stalls = stalls
        self._writers = writers

    @cached_property
    def _of_process(self) -> Mapping[Process, Stalls]:
        return stalls_by_process(self._stalls(), self._writers)

    @cached_property
    def _of_requests(self) -> Mapping[Process, Stalls]:
        return stalls_by_process(self._stalls(), self._writers, of_requests=True)

    def _own(self, stalls: Stalls, begin_ns: int, end_ns: int) -> tuple[float, int]:
        """Return the seconds and the number of the stall of a request itself; -1 for none."""
        number = stalls.longest(begin_ns, end_ns)
        if number < 0:
            return 0.0, -1
        found = self._stalls().iloc[number]
        bounds = found["begin"].value, found["end"].value
        overlap_ns = min(end_ns, bounds[1]) - max(begin_ns, bounds[0])
        is_own = overlap_ns >= SAME * max(end_ns - begin_ns, bounds[1] - bounds[0])
        return (float(overlap_ns) / NS_PER_S, number) if is_own else (0.0, -1)

    @cached_property
    def _pauses(self) -> Mapping[Process, Intervals]:
        """The collector's pauses of each process that was sampled."""
        rows = self._runtime.of_label(GC_PAUSE)
        begins_ns = rows.timepoints_ns - lengths_ns(rows.measurements)
        codes = np.flatnonzero(np.bincount(self._runtime.process_codes, minlength=1))
        if not len(self._runtime):
            return {}
        found = {}
        for code in codes.tolist():
            own = rows.process_codes == code
            found[rows.processes[code]] = merged(begins_ns[own], rows.timepoints_ns[own])
        return found

    def columns(
        self, processes: Sequence[Process], begins_ns: Integers, ends_ns: Integers
    ) -> dict[str, Any]:
        """Return the columns of `Tables.slowest` that say what each duration overlaps."""
        gc_s, stall_s = np.full(len(processes), np.nan), np.full(len(processes), np.nan)
        longest = np.full(len(processes), -1)
        for process in set(processes):
            own = np.array([each == process for each in processes])
            spans = begins_ns[own], ends_ns[own]
            pauses, stalls = self._pauses.get(process), self._of_process.get(process)
            if pauses is not None:
                gc_s[own] = _seconds(pauses.overlap_ns(*spans))
            if stalls is not None:
                stall_s[own] = _seconds(stalls.intervals.overlap_ns(*spans))
                longest[own] = [stalls.longest(*span) for span in zip(*spans, strict=True)]
            requests = self._of_requests.get(process)
            if requests is not None:
                found = [self._own(requests, *span) for span in zip(*spans, strict=True)]
                stall_s[own] = np.fmax(stall_s[own], [seconds for seconds, _ in found])
                numbers = np.array([number for _, number in found])
                longest[own] = np.where(numbers < 0, longest[own], numbers)
        return {"gc_s": gc_s, "stall_s": stall_s, **self._named(longest)}

    def _named(self, numbers: Integers) -> dict[str, Any]:
        found = self._stalls().iloc[np.maximum(numbers, 0)] if (numbers >= 0).any() else None
        if found is None:
            return dict.fromkeys(("stall_cause", "stall_line"), texts([""] * len(numbers)))
        lines = lines_of(found)
        return {
            "stall_cause": texts(np.where(numbers >= 0, found["cause"], "").tolist()),
            "stall_line": texts(np.where(numbers >= 0, lines, "").tolist()),
        }


def lines_of(stalls: pd.DataFrame) -> list[str]:
    """Return the line of each stall as `file:line`; "" if none was seen."""
    return [
        f"{file}:{line}" if file else ""
        for file, line in zip(stalls["file"], stalls["line"].tolist(), strict=True)
    ]


def _seconds(overlap_ns: Integers) -> _Floats:
    seconds: _Floats = overlap_ns / NS_PER_S
    return seconds
