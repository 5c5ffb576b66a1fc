"""Selects the observations that lie in time bins, with the bin of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.views.strips.cells import Floats, Grid, Integers, Span


class BinnedRows(NamedTuple):
    """Observations that lie in a grid, as columns of equal length."""

    bins: Integers
    """The bin of each."""
    values: Floats
    """The measurements."""
    labels: Any
    """The label of each, as an index into `names`."""
    names: Sequence[str]
    processes: Any
    """The process of each, as an index into those that are drawn; -1 for any other."""


def binned(
    rows: Rows,
    window: Grid,
    span: Span,
    processes: Sequence[Process],
    writers: Mapping[str, str],
) -> BinnedRows:
    """Return the observations in a span, which the grid covers.

    `processes` are those that are drawn, `writers` replaces some writers of processes.
    """
    times = rows.timepoints_ns
    inside = (times >= span.begin_ns) & (times < span.end_ns)
    if not inside.all():
        rows = rows[np.flatnonzero(inside)]  # the mask is searched once, not for each column
    number = {process: index for index, process in enumerate(processes)}
    drawn = np.array(
        [number.get(process.named(writers), -1) for process in rows.processes], dtype=np.int32
    )
    return BinnedRows(
        window.numbers(rows.timepoints_ns),
        rows.measurements,
        rows.label_codes,
        rows.labels,
        drawn[rows.process_codes],
    )
