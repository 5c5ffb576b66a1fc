"""Computes how long was recorded: the time in which at least one process recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rows import Codes, Rows
from aqltelemetry.reading.summaries.groups import stable_order
from aqltelemetry.system.clock import NS_PER_S

# Labels with one observation per sampling interval, unlike those of single events.
_SAMPLED = ("gc collections", "user time")
MIN_RECORDED_S = 1.0
"""The shortest time recorded, in seconds: rates over less time mean nothing."""
_CHUNK_ROWS = 1 << 18
# Longer durations are taken for this: 292 years do not fit into integer nanoseconds.
_MAX_S = 2**62 / NS_PER_S
Times = npt.NDArray[np.int64]


class Span(NamedTuple):
    """The first and the last instant of a recording, in nanoseconds since the epoch."""

    begin_ns: int
    end_ns: int

    @property
    def recorded_s(self) -> float:
        """The length in seconds, at least `MIN_RECORDED_S`."""
        return max((self.end_ns - self.begin_ns) / NS_PER_S, MIN_RECORDED_S)


def spans(durations: Rows, runtime: Rows) -> Mapping[int, Span]:
    """Return the span that each process recorded, by its index in `processes`.

    A process records from its start to its last sample or duration. Its start is one sampling
    interval before its first sample, or the start of its first duration, if that is earlier.
    The two arguments have the same `processes`.
    """
    begins = np.full(len(durations.processes), np.iinfo(np.int64).max)
    ends = np.full(len(durations.processes), np.iinfo(np.int64).min)
    for start in range(0, len(durations), _CHUNK_ROWS):
        _extend_by_durations(begins, ends, durations[start : start + _CHUNK_ROWS])
    _extend(begins, ends, runtime.process_codes, runtime.timepoints_ns, runtime.timepoints_ns)
    for label in _SAMPLED:
        _extend(begins, ends, *_before_first(runtime.of_label(label)))
    return {
        process: Span(int(begins[process]), int(ends[process]))
        for process in np.flatnonzero(begins <= ends).tolist()
    }


def recorded_s(found: Iterable[Span], since_ns: int | None) -> float:
    """Return the seconds in which at least one process recorded.

    Time before `since_ns` does not count. The result is at least `MIN_RECORDED_S`, and NaN if
    there are no spans.
    """
    in_order = sorted(found)
    if not in_order:
        return float("nan")
    total_ns, until_ns = 0, in_order[0].begin_ns if since_ns is None else since_ns
    for begin_ns, end_ns in in_order:
        total_ns += max(end_ns - max(begin_ns, until_ns), 0)
        until_ns = max(until_ns, end_ns)
    return max(total_ns / NS_PER_S, MIN_RECORDED_S)


def lengths_ns(durations_s: npt.NDArray[np.float64] | np.float64) -> Times:
    """Return durations in nanoseconds; 0 for one that is negative, infinite or NaN."""
    is_length = (durations_s > 0) & (durations_s < _MAX_S)
    rounded: Times = np.rint(np.where(is_length, durations_s, 0.0) * NS_PER_S).astype(np.int64)
    return rounded


def _extend_by_durations(begins: Times, ends: Times, rows: Rows) -> None:
    at_ns = rows.timepoints_ns
    _extend(begins, ends, rows.process_codes, at_ns, at_ns)
    # In most chunks, no duration is long enough to begin before those of the chunks before.
    longest_s = np.fmax.reduce(rows.measurements)
    latest_begin_ns = begins[rows.process_codes[_runs(rows.process_codes)]].max()
    if longest_s > _MAX_S or at_ns.min() - int(lengths_ns(longest_s)) < latest_begin_ns:
        _extend(begins, ends, rows.process_codes, at_ns - lengths_ns(rows.measurements), at_ns)


def _extend(begins: Times, ends: Times, processes: Codes, first_ns: Times, last_ns: Times) -> None:
    """Extend the spans of processes to these instants."""
    if len(processes):
        runs = _runs(processes)
        np.minimum.at(begins, processes[runs], np.minimum.reduceat(first_ns, runs))
        np.maximum.at(ends, processes[runs], np.maximum.reduceat(last_ns, runs))


def _runs(processes: Codes) -> npt.NDArray[np.intp]:
    """Return where runs of the same process begin: they are long, as in its files."""
    is_first = np.ones(len(processes), dtype=bool)
    np.not_equal(processes[1:], processes[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


def _before_first(samples: Rows) -> tuple[Codes, Times, Times]:
    """Return processes, and their first sample minus their median sampling interval, twice."""
    in_time = samples[np.argsort(samples.timepoints_ns, kind="stable")]
    ordered = in_time[stable_order(in_time.process_codes)]
    codes, times = ordered.process_codes, ordered.timepoints_ns
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    begins = [
        int(own[0] - (np.median(np.diff(own)) if len(own) > 1 else 0))
        for own in np.split(times, starts[1:])
        if len(own)
    ]
    found = np.array(begins, np.int64)
    return codes[starts], found, found
