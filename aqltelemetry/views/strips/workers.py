"""Computes the strips of workers: what each process did and used over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aqltelemetry.views.strips.cells import Floats, Grid, Integers
from aqltelemetry.views.strips.lives import Life
from aqltelemetry.views.strips.rows import BinnedRows

LAG = "event loop lag"
GC_PAUSE = "gc pause"
CPU = "cpu percent"
RSS = "rss"
IN_FLIGHT = "requests in flight"


@dataclass(frozen=True, slots=True)
class WorkerStrip:
    """One process over time; each array has one element for each bin, NaN where none is known."""

    life: Life
    count: Integers
    """Requests that ended, or durations where no requests were recorded."""
    p99_s: Floats
    """Their exact 99th percentile, in seconds."""
    lag_max_s: Floats
    """The largest sample of the event loop's lag, in seconds."""
    gc_pause_s: Floats
    """The sum of the collector's pauses, in seconds."""
    gc_pause_max_s: Floats
    """The longest of them."""
    cpu_percent: Floats
    """The mean of the samples, in percent of one processor."""
    rss_bytes: Floats
    """The largest sample of the resident memory, in bytes."""
    in_flight: Floats
    """The largest sample of the requests in progress."""


def worker_strips(
    lives: Sequence[Life],
    count: Integers,
    p99_s: Floats,
    runtime: BinnedRows,
    window: Grid,
) -> list[WorkerStrip]:
    """Return the strips of processes, in their order.

    Args:
        lives: The processes, which are those of `runtime`.
        count: For each process and bin, the number of its requests.
        p99_s: For each process and bin, their 99th percentile.
        runtime: The rows of the built-in samplers.
        window: The bins.
    """
    sampled = _Sampled(runtime, window, len(lives))
    columns = (
        count,
        p99_s,
        sampled.reduced(LAG, np.maximum),
        sampled.reduced(GC_PAUSE, np.add),
        sampled.reduced(GC_PAUSE, np.maximum),
        sampled.mean(CPU),
        sampled.reduced(RSS, np.maximum),
        sampled.reduced(IN_FLIGHT, np.maximum),
    )
    return [
        WorkerStrip(life, *(column[number] for column in columns))
        for number, life in enumerate(lives)
    ]


class _Sampled:
    """The samples of processes, by label."""

    def __init__(self, rows: BinnedRows, window: Grid, processes: int) -> None:
        self._rows, self._bins, self._shape = rows, window.bins, (processes, window.bins)

    def _cells(self, label: str) -> tuple[Integers, Floats]:
        """Return cells, in ascending order, and values of a label's samples."""
        rows = self._rows
        if label not in rows.names:
            return np.empty(0, dtype=np.int64), np.empty(0)
        chosen = (rows.labels == rows.names.index(label)) & (rows.processes >= 0)
        chosen &= np.isfinite(rows.values)
        cells = rows.processes[chosen].astype(np.int64) * self._bins + rows.bins[chosen]
        order = np.argsort(cells, kind="stable")
        return cells[order], rows.values[chosen][order]

    def reduced(self, label: str, operation: np.ufunc) -> Floats:
        """Return the samples of each process and bin, reduced to one value."""
        cells, values = self._cells(label)
        found = np.full(self._shape[0] * self._bins, np.nan)
        if len(cells):
            starts = np.flatnonzero(np.diff(cells, prepend=-1))
            found[cells[starts]] = operation.reduceat(values, starts)
        result: Floats = found.reshape(self._shape)
        return result

    def mean(self, label: str) -> Floats:
        """Return the mean of the samples of each process and bin."""
        cells, _ = self._cells(label)
        counts = np.bincount(cells, minlength=self._shape[0] * self._bins).reshape(self._shape)
        result: Floats = self.reduced(label, np.add) / np.where(counts, counts, 1)
        return result
