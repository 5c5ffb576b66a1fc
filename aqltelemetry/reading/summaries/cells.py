"""Observations sorted by label and process, so that those of any of them are next to each other.

Most tables are of labels or processes. What they need is computed for each pair of both, a cell,
and then of the few cells instead of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rows import Codes, Process, Rows
from aqltelemetry.reading.summaries import groups
from aqltelemetry.reading.summaries.groups import Floats, Integers, stable_order
from aqltelemetry.reading.summaries.selection import Indexes, Runs, quantiles
from aqltelemetry.reading.summaries.threads import map_all

_Words = npt.NDArray[np.int64]


class Cells:
    """Observations sorted by label, then by process; those of a cell stay in order.

    Attributes:
        labels: The labels, in the order of the rows' codes.
        processes: The processes, in the order of the rows' codes.
        label_codes: The label of each cell, an index into `labels`. No cell is empty.
        process_codes: The process of each cell, an index into `processes`.
        counts: How many observations each cell has.
        begins: Where each cell begins in the arrays.
        ends: Where each cell ends.
        timepoints_ns: The times of all observations, nanoseconds since the epoch.
        measurements: The values of all observations.
    """

    def __init__(self, rows: Rows) -> None:
        self.labels: Sequence[str] = rows.labels
        self.processes: Sequence[Process] = rows.processes
        numbers, self.counts, self.timepoints_ns, self.measurements = _arranged(rows)
        codes = np.divmod(numbers, max(len(rows.processes), 1))
        self.label_codes, self.process_codes = codes
        self.ends: Indexes = np.cumsum(self.counts)
        self.begins: Indexes = self.ends - self.counts

    def __len__(self) -> int:
        return len(self.measurements)

    @cached_property
    def sums(self) -> Floats:
        """The sum of each cell, without values that are NaN."""
        return groups.sums(self.measurements, self.begins)

    @cached_property
    def largest(self) -> Floats:
        """The largest value of each cell; NaN if all are NaN."""
        return groups.largest(self.measurements, self.begins)

    @cached_property
    def known(self) -> Indexes:
        """How many values of each cell are not NaN."""
        return self.counts - groups.missing(self.measurements, self.begins)

    def grouped(self, keys: Integers) -> CellGroups:
        """Group cells by keys, one for each; cells with a negative key are left out."""
        return CellGroups(self, keys)


class CellGroups:
    """Cells grouped by a key; `keys` and `counts` are those of `groups.Groups`."""

    def __init__(self, cells: Cells, keys: Integers) -> None:
        chosen = np.flatnonzero(keys >= 0)
        order = chosen[np.argsort(keys[chosen], kind="stable")]
        self.keys, self._firsts = np.unique(keys[order].astype(np.int64), return_index=True)
        self._cells = cells
        self._order = order
        self.counts = self._added(cells.counts)

    def sum(self) -> Floats:
        """Return the sum of each group, without values that are NaN."""
        return groups.sums(self._cells.sums[self._order], self._firsts)

    def max(self) -> Floats:
        """Return the largest value of each group; NaN if all are NaN."""
        return groups.largest(self._cells.largest[self._order], self._firsts)

    def quantiles(self, shares: Sequence[float]) -> Floats:
        """Return quantiles of each group; see `selection.quantiles`."""
        cells = self._cells
        firsts = np.append(self._firsts, len(self._order))
        runs = Runs(cells.begins[self._order], cells.ends[self._order], firsts)
        return quantiles(cells.measurements, runs, self._added(cells.known), shares)

    def _added(self, numbers: Indexes) -> Indexes:
        if not len(self._firsts):
            return np.zeros(0, np.int64)
        added: Indexes = np.add.reduceat(numbers[self._order], self._firsts)
        return added


def _arranged(rows: Rows) -> tuple[Indexes, Indexes, _Words, Floats]:
    """Return the numbers of the cells that occur, their counts, and the sorted columns."""
    width = max(len(rows.processes), 1)
    size = len(rows.labels) * width
    times, values = rows.timepoints_ns, rows.measurements
    if groups.compiled is None or size > groups.MAX_COUNTED:
        return _arranged_by_sort(rows, width)
    codes = np.ascontiguousarray(rows.label_codes), _small(rows.process_codes)
    counts = np.zeros(size, np.int64)
    are_sorted = groups.compiled.count_cells(*codes, width, counts)
    numbers = np.flatnonzero(counts)
    if are_sorted:  # as those of archives are read
        return numbers, counts[numbers], np.ascontiguousarray(times), np.ascontiguousarray(values)
    begins = np.cumsum(counts) - counts

    def arranged(column: npt.NDArray[Any]) -> _Words:
        words = np.ascontiguousarray(column).view(np.int64)
        out = np.empty(len(words), np.int64)
        groups.compiled.arrange(*codes, width, begins.copy(), words, out)
        return out

    sorted_times, sorted_values = map_all(arranged, [times, values], len(rows))
    return numbers, counts[numbers], sorted_times, sorted_values.view(np.float64)


def _arranged_by_sort(rows: Rows, width: int) -> tuple[Indexes, Indexes, _Words, Floats]:
    kind = np.min_scalar_type(max(len(rows.labels), 1) * width)
    keys = rows.label_codes.astype(kind) * kind.type(width) + rows.process_codes.astype(kind)
    order = stable_order(keys)
    numbers, counts = np.unique(keys, return_counts=True)
    numbers, counts = numbers.astype(np.int64), counts.astype(np.int64)
    return numbers, counts, rows.timepoints_ns[order], rows.measurements[order]


def _small(codes: Codes) -> Codes:
    """Return codes of processes in a type that the extension knows: there are never 2**31."""
    return np.ascontiguousarray(codes, np.int32 if codes.itemsize > 4 else codes.dtype)  # noqa: PLR2004
