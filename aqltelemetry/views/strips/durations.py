"""Counts the durations in a span by label and time bin, and groups them into cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.views.strips.cells import Cells, Grid, Integers, SortedCells, Span, figures
from aqltelemetry.views.strips.counted_cells import (
    Part,
    count_cells,
    count_labels,
    is_available,
    is_faster,
)

_Groups = npt.NDArray[np.int32]
_NONE = -1


class Grouping(NamedTuple):
    """Which durations belong together: all requests, each route, and each worker's requests.

    Group 0 is that of all requests; then come the routes, then the workers.
    """

    is_request: npt.NDArray[np.bool_]
    """For each name, whether it counts for all requests and for workers."""
    route: Integers
    """For each name, the number of its route; -1 for none."""
    routes: int
    workers: Sequence[Process]
    writers: Mapping[str, str]
    """Replaces some writers of processes."""

    @property
    def size(self) -> int:
        """The number of groups."""
        return 1 + self.routes + len(self.workers)


class Durations:
    """The durations in a span.

    Args:
        parts: All durations.
        window: The time bins.
        span: The time that is drawn, which the bins cover.

    Attributes:
        names: The labels, in alphabetical order.
        counts: For each name and bin, how many durations there are.
    """

    def __init__(self, parts: Sequence[Rows], window: Grid, span: Span) -> None:
        self._window, self._span = window, span
        self._blocks = list(inside(parts, span))
        labels = {id(block.labels): block.labels for block in self._blocks}
        self.names: Sequence[str] = sorted({name for each in labels.values() for name in each})
        number = {name: index for index, name in enumerate(self.names)}
        self._names = {
            key: np.array([number[name] for name in each], np.int32) for key, each in labels.items()
        }
        self.counts: Integers = np.zeros((len(self.names), window.bins), np.int64)
        self._lowest = np.full(len(self.names), np.inf)
        self._highest = np.full(len(self.names), -np.inf)
        for block in self._blocks:
            self._count(block)

    def _count(self, block: Rows) -> None:
        names = self._names[id(block.labels)]
        if is_available():
            ranges = self._lowest, self._highest
            count_labels(block, names, self._window, self._span, self.counts, *ranges)
            return
        chosen, bins = self._binned(block)
        cells = names[block.label_codes[chosen]].astype(np.int64) * self._window.bins + bins
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    def _binned(self, block: Rows) -> tuple[Any, Integers]:
        """Return which rows of a block are in the span, and the bin of each of these."""
        times = block.timepoints_ns
        is_inside = (times >= self._span.begin_ns) & (times < self._span.end_ns)
        chosen: Any = slice(None) if is_inside.all() else np.flatnonzero(is_inside)
        return chosen, self._window.numbers(times[chosen])

    def cells(self, grouping: Grouping) -> Cells:
        """Return the figures of each group in each bin."""
        parts = [self._part(block, grouping) for block in self._blocks]
        shape = (grouping.size, self._window.bins, 1 + grouping.routes)
        used = grouping.is_request | (grouping.route >= 0)
        if is_faster(int(self.counts[used].sum()), shape):
            ranges = self._ranges(grouping)
            return count_cells(parts, self._window, self._span, shape, ranges)
        return self._sorted(parts, shape)

    def _part(self, block: Rows, grouping: Grouping) -> Part:
        """Return a block with the groups of its labels and processes."""
        names = self._names[id(block.labels)]
        label_groups = np.full((len(names), 2), _NONE, np.int32)
        label_groups[grouping.is_request[names], 0] = 0
        route = grouping.route[names]
        label_groups[:, 1] = np.where(route >= 0, route + 1, _NONE)
        number: Mapping[Process, int] = {
            process: index for index, process in enumerate(grouping.workers, 1 + grouping.routes)
        }
        processes = [process.named(grouping.writers) for process in block.processes]
        process_groups = [number.get(process, _NONE) for process in processes]
        return Part(block, label_groups, np.array(process_groups, np.int32))

    def _ranges(self, grouping: Grouping) -> list[tuple[float, float]]:
        """Return the shortest and the longest duration of all requests, and of each route."""
        members = [grouping.is_request, *(grouping.route == n for n in range(grouping.routes))]
        return [
            (
                float(self._lowest[each].min(initial=np.inf)),
                float(self._highest[each].max(initial=-np.inf)),
            )
            for each in members
        ]

    def _sorted(self, parts: Sequence[Part], shape: tuple[int, int, int]) -> Cells:
        cells: list[Integers] = [np.empty(0, np.int64)]
        values = [np.empty(0)]
        for rows, label_groups, process_groups in parts:
            chosen, bins = self._binned(rows)
            own = rows.measurements[chosen]
            labels = label_groups[rows.label_codes[chosen]]
            workers = process_groups[rows.process_codes[chosen]]
            workers = np.where(labels[:, 0] >= 0, workers, _NONE)
            for groups in (labels[:, 0], labels[:, 1], workers):
                grouped = np.flatnonzero(groups >= 0)
                cells.append(groups[grouped].astype(np.int64) * shape[1] + bins[grouped])
                values.append(own[grouped])
        size = shape[0] * shape[1]
        return figures(SortedCells(np.concatenate(cells), np.concatenate(values), size), *shape)


def inside(parts: Sequence[Rows], span: Span) -> Iterator[Rows]:
    """Yield the blocks that have rows in a span, or between others that are in it."""
    for part in parts:
        for block in part.blocks:
            times = block.span_ns
            if times is not None and times[0] < span.end_ns and times[1] >= span.begin_ns:
                yield block


def count_inside(parts: Sequence[Rows], span: Span) -> int:
    """Return how many rows are in a span."""
    total = 0
    for block in inside(parts, span):
        first_ns, last_ns = block.span_ns or (0, 0)
        if span.begin_ns <= first_ns and last_ns < span.end_ns:
            total += len(block)
        else:
            times = block.timepoints_ns
            total += int(np.count_nonzero((times >= span.begin_ns) & (times < span.end_ns)))
    return total
