"""How much of the time a worker was busy: at least one of its requests or blocks ran."""

from __future__ import annotations

import numpy as np

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.buckets import Integers
from aqltelemetry.views.live.seconds import KEPT_S, Span

_CELL_NS = 1_000_000
_CELLS = NS_PER_S // _CELL_NS
_FINE_S = 16


class BusyTime:
    """The nanoseconds of each second in which at least one interval of a worker lies.

    Intervals arrive in pieces, each when it ends, and may overlap. Those of one piece are merged
    exactly. Against earlier pieces, they are merged in cells of a millisecond, in the last 16
    seconds, and of a second before that: of a cell that both cover in part, the parts are added,
    up to the whole cell.
    """

    def __init__(self) -> None:
        self._cells = np.zeros(_FINE_S * _CELLS, np.int64)
        self._seconds = np.zeros(KEPT_S, np.int64)
        self._end_s = 0
        self._before_ns = 0

    def add(self, begins_ns: Integers, ends_ns: Integers) -> None:
        """Add intervals of this worker, in nanoseconds since the epoch."""
        if not len(ends_ns):
            return
        begins, ends = merged(begins_ns, ends_ns)
        self._move_to(int(ends[-1] // NS_PER_S) + 1)
        fine_ns = (self._end_s - _FINE_S) * NS_PER_S
        first_ns = (self._end_s - KEPT_S) * NS_PER_S
        older = _clipped(begins, ends, 0, first_ns)
        self._before_ns += int((older[1] - older[0]).sum())
        self._add(self._seconds, NS_PER_S, *_clipped(begins, ends, first_ns, fine_ns))
        begins, ends = _clipped(begins, ends, fine_ns, self._end_s * NS_PER_S)
        if len(begins):
            self._add(self._cells, _CELL_NS, begins, ends)
            self._sum_up(int(begins[0] // NS_PER_S))

    def busy_s(self, span: Span | None) -> float:
        """Return the busy seconds of a span, or of all time."""
        if span is None:
            return (self._before_ns + int(self._seconds.sum())) / NS_PER_S
        self._move_to(span.end_s)
        return float(self._seconds[span.columns()].sum()) / NS_PER_S

    def _move_to(self, end_s: int) -> None:
        """Forget what is too old once the seconds before `end_s` are known."""
        new = min(end_s - self._end_s, KEPT_S)
        if new > 0:
            seconds = np.arange(end_s - new, end_s)
            self._before_ns += int(self._seconds[seconds % KEPT_S].sum())
            self._seconds[seconds % KEPT_S] = 0
            self._cells.reshape(_FINE_S, _CELLS)[seconds[-_FINE_S:] % _FINE_S] = 0
            self._end_s = end_s

    def _sum_up(self, first_s: int) -> None:
        seconds = np.arange(first_s, self._end_s)
        cells = self._cells.reshape(_FINE_S, _CELLS)
        self._seconds[seconds % KEPT_S] = cells[seconds % _FINE_S].sum(axis=1)

    @staticmethod
    def _add(cells: Integers, width_ns: int, begins: Integers, ends: Integers) -> None:
        """Add intervals to a ring of cells: to those at their ends, and to those between."""
        if not len(begins):
            return
        first, last = begins // width_ns, ends // width_ns
        parts = np.zeros(int(last[-1] - first[0]) + 1, np.int64)
        inner = np.zeros(len(parts) + 1, np.int64)
        is_inside = first == last
        np.add.at(
            parts, first - first[0], np.where(is_inside, ends, (first + 1) * width_ns) - begins
        )
        np.add.at(parts, last - first[0], np.where(is_inside, 0, ends - last * width_ns))
        np.add.at(inner, (first + 1 - first[0])[~is_inside], 1)
        np.add.at(inner, (last - first[0])[~is_inside], -1)
        parts[inner.cumsum()[:-1] > 0] = width_ns
        numbers = np.arange(int(first[0]), int(last[-1]) + 1)
        # The end of the last interval may lie at the start of a cell that is not in the ring.
        is_used = parts > 0
        at = numbers[is_used] % len(cells)
        cells[at] = np.minimum(cells[at] + parts[is_used], width_ns)


def merged(begins: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Return the union of intervals as disjoint intervals, in order."""
    order = np.argsort(begins, kind="stable")
    begins, ends = begins[order], np.maximum.accumulate(ends[order])
    is_first = np.concatenate([[True], begins[1:] > ends[:-1]])
    is_last = np.concatenate([is_first[1:], [True]])
    return begins[is_first], ends[is_last]


def _clipped(begins: Integers, ends: Integers, first: int, last: int) -> tuple[Integers, Integers]:
    begins, ends = np.maximum(begins, first), np.minimum(ends, last)
    is_left = ends > begins
    return begins[is_left], ends[is_left]
