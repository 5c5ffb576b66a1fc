"""Sets of time intervals: how long each of many spans of time overlaps them."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.int64]


class Intervals(NamedTuple):
    """Disjoint intervals in ascending order, in nanoseconds since the epoch."""

    begins_ns: Integers
    ends_ns: Integers

    @property
    def total_ns(self) -> int:
        """The sum of their lengths."""
        return int((self.ends_ns - self.begins_ns).sum())

    def overlap_ns(self, begins_ns: Integers, ends_ns: Integers) -> Integers:
        """Return for each span of time how much of it they cover."""
        return self._before(ends_ns) - self._before(begins_ns)

    def number_after(self, at_ns: Integers) -> Any:
        """Return for each time the number of the interval at or after it."""
        return np.searchsorted(self.ends_ns, at_ns)

    def _before(self, at_ns: Integers) -> Integers:
        """Return how much time they cover before each time."""
        if not len(self.begins_ns):
            return np.zeros(len(at_ns), np.int64)
        sums = np.concatenate([[0], np.cumsum(self.ends_ns - self.begins_ns)])
        number = np.searchsorted(self.begins_ns, at_ns, "right")
        last = np.maximum(number - 1, 0)
        beyond = np.maximum(self.ends_ns[last] - at_ns, 0)
        covered: Integers = np.where(number > 0, sums[number] - beyond, 0)
        return covered


def merged(begins_ns: Integers, ends_ns: Integers) -> Intervals:
    """Return the union of intervals in any order."""
    if not len(begins_ns):
        return Intervals(begins_ns, ends_ns)
    order = np.argsort(begins_ns, kind="stable")
    begins, ends = begins_ns[order], np.maximum.accumulate(ends_ns[order])
    is_first = np.concatenate([[True], begins[1:] > ends[:-1]])
    firsts = np.flatnonzero(is_first)
    return Intervals(begins[firsts], ends[np.append(firsts[1:], len(begins)) - 1])
