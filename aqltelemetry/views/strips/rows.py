"""Selects the rows of a frame that lie in time bins, with a number for each label and process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from aqltelemetry.observation import LABEL, MEASUREMENT, PID, TIMEPOINT
from aqltelemetry.reading.csv_frames import WRITER
from aqltelemetry.views.strips.cells import Floats, Grid, Integers, Span

if TYPE_CHECKING:
    import pandas as pd

Process: TypeAlias = tuple[int, str]
"""A PID and the writer in the names of the process's files."""


class Rows(NamedTuple):
    """Rows that lie in a grid, as columns of equal length."""

    bins: Integers
    """The bin of each row."""
    values: Floats
    """The measurements."""
    labels: Any
    """The label of each row, as an index into `names`."""
    names: Sequence[str]
    processes: Any
    """The process of each row, as an index into the processes; -1 for any other."""


def times_ns(frame: pd.DataFrame) -> Integers:
    """Return when each row was measured, in nanoseconds since the epoch."""
    times: Integers = frame[TIMEPOINT].to_numpy().astype("datetime64[ns]", copy=False).view("int64")
    return times


def rows(
    frame: pd.DataFrame,
    window: Grid,
    span: Span,
    processes: Sequence[Process],
    labels: Sequence[str] | None = None,
) -> Rows:
    """Return the rows with a time in a span, which the grid covers; of `labels`, if given.

    The frame is a result of `TelemetryFrame.data_by_process`.
    """
    times = times_ns(frame)
    codes = frame[LABEL].cat.codes.to_numpy()
    names = [str(name) for name in frame[LABEL].cat.categories]
    inside = (times >= span.begin_ns) & (times < span.end_ns)
    if labels is not None:
        inside &= np.isin(names, labels)[codes]
    if not inside.all():
        frame, times, codes = frame[inside], times[inside], codes[inside]
    values = frame[MEASUREMENT].to_numpy()
    return Rows(window.numbers(times), values, codes, names, _processes(frame, processes))


def _processes(frame: pd.DataFrame, processes: Sequence[Process]) -> Any:
    """Return the index of each row's process in `processes`; -1 for any other."""
    pid_codes, pids = frame[PID].factorize()
    writers = frame[WRITER].cat
    pid_numbers = {int(pid): number for number, pid in enumerate(pids)}
    writer_numbers = {str(name): number for number, name in enumerate(writers.categories)}
    table = np.full((max(len(pids), 1), max(len(writer_numbers), 1)), -1, dtype=np.int32)
    for number, (pid, writer) in enumerate(processes):
        if pid in pid_numbers and writer in writer_numbers:
            table[pid_numbers[pid], writer_numbers[writer]] = number
    return table[pid_codes, writers.codes.to_numpy()]
