from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.reading.stalls.intervals import merged

_SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12)


def _bounds(spans: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(spans, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 0] + array[:, 1]


@given(_SPANS, _SPANS)
def test_overlaps_are_those_of_single_nanoseconds(
    covering: list[tuple[int, int]], spans: list[tuple[int, int]]
) -> None:
    intervals = merged(*_bounds(covering))
    covered = {at for begin, length in covering for at in range(begin, begin + length)}
    assert intervals.total_ns == len(covered)
    assert (intervals.begins_ns[1:] > intervals.ends_ns[:-1]).all()
    overlaps = intervals.overlap_ns(*_bounds(spans)).tolist()
    assert overlaps == [len(covered & set(range(begin, begin + length))) for begin, length in spans]


def test_a_time_belongs_to_the_interval_at_or_after_it() -> None:
    intervals = merged(np.array([10, 30]), np.array([20, 40]))
    assert intervals.number_after(np.array([5, 15, 20, 25, 35])).tolist() == [0, 0, 0, 1, 1]
