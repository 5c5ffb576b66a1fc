"""Cells contain each observation once, and groups of cells are groups of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.reading.summaries import groups, threads
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.reading.summaries.groups import Groups

_COMPILED = groups.compiled
_ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.floats(allow_infinity=False)), max_size=60
)


def _rows(found: list[tuple[int, int, float]], kind: Any = np.int8) -> Rows:
    return Rows(
        np.arange(len(found), dtype=np.int64),
        np.array([value for _, _, value in found], np.float64),
        np.array([label for label, _, _ in found], kind),
        list("abcd"),
        np.array([process for _, process, _ in found], kind),
        [Process(pid, "") for pid in range(3)],
    )


@given(_ROWS, st.sampled_from([1, 1000]), st.sampled_from([np.int8, np.int16, np.int32, np.int64]))
def test_cells_are_the_rows_in_the_order_of_a_stable_sort(
    found: list[tuple[int, int, float]], least: int, kind: Any
) -> None:
    rows = _rows(found, kind)
    order = sorted(range(len(found)), key=lambda row: found[row][:2])
    for compiled in (_COMPILED, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(groups, "compiled", compiled)
            patch.setattr(threads, "_MIN_VALUES", least)
            cells = Cells(rows)
        assert cells.timepoints_ns.tolist() == order
        np.testing.assert_array_equal(cells.measurements, rows.measurements[order])
        pairs = sorted({row[:2] for row in found})
        assert [*zip(cells.label_codes, cells.process_codes, strict=True)] == pairs
        assert cells.counts.tolist() == [sum(row[:2] == pair for row in found) for pair in pairs]
        assert len(cells) == cells.counts.sum() == len(found)


@pytest.mark.skipif(_COMPILED is None, reason="noticed by the extension only")
def test_rows_that_are_in_order_are_not_copied() -> None:
    rows = _rows([(0, 1, 1.0), (0, 2, 2.0), (2, 0, 3.0), (2, 0, 4.0)])
    assert Cells(rows).measurements is rows.measurements
    assert not np.shares_memory(Cells(rows[::-1]).measurements, rows.measurements)


@given(_ROWS, st.lists(st.integers(-1, 2), min_size=12, max_size=12))
def test_groups_of_cells_are_groups_of_rows(
    found: list[tuple[int, int, float]], keys_of: list[int]
) -> None:
    rows = _rows(found)
    cells = Cells(rows)
    keys = np.array(keys_of)
    ours = cells.grouped(keys[cells.label_codes * 3 + cells.process_codes])
    others = Groups(keys[rows.label_codes * 3 + rows.process_codes], rows.measurements)
    assert ours.keys.tolist() == others.keys.tolist()
    assert ours.counts.tolist() == others.counts.tolist()
    np.testing.assert_array_equal(ours.max(), others.max())
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_allclose(ours.sum(), others.sum(), rtol=1e-9, atol=1e300)
    shares = [0.0, 0.5, 0.99]
    np.testing.assert_array_equal(ours.quantiles(shares), others.quantiles(shares))


def test_the_extension_refuses_wrong_codes() -> None:
    if _COMPILED is None:
        pytest.skip("the extensions are not built, or are switched off")
    codes, counts = np.array([0, 2], np.int8), np.zeros(4, np.int64)
    with pytest.raises(ValueError, match="a code is wrong"):
        _COMPILED.count_cells(codes, codes, 2, counts)
    with pytest.raises(ValueError, match="a code is wrong"):
        _COMPILED.count_cells(codes, codes[:1], 2, counts)
    column = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="equal lengths"):
        _COMPILED.arrange(codes, codes, 2, counts, column, column[:1])
