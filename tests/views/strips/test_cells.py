from __future__ import annotations

import numpy as np
import pytest

from aqltelemetry.views.strips.cells import Grid, SortedCells, Span, grid

_S = 10**9


@pytest.mark.parametrize(
    ("length_s", "width_s"),
    [
        *((0.3, 0.001), (3, 0.01), (60, 0.2), (600, 2), (3600, 10), (4 * 3600, 60)),
        *((86400, 300), (30 * 86400, 2 * 3600), (400 * 86400, 2 * 86400)),
    ],
)
def test_bins_have_a_round_width_and_are_aligned_to_the_epoch(
    length_s: float, width_s: float
) -> None:
    begin_ns = 1_795_489_012_345_678_901
    found = grid(Span(begin_ns, begin_ns + int(length_s * _S)), 400)
    assert found.width_ns == width_s * _S
    assert found.begin_ns % found.width_ns == 0
    assert found.begin_ns <= begin_ns < found.begin_ns + found.width_ns
    assert found.end_ns - found.width_ns < begin_ns + int(length_s * _S) <= found.end_ns
    assert found.bins <= 400


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_there_are_never_more_bins_than_asked_for(most: int) -> None:
    for length_ns in (1, 10**6, 10**9 + 1, 86400 * _S, 10**18):
        found = grid(Span(1_795_489_012_999_999_999, 1_795_489_012_999_999_999 + length_ns), most)
        assert 1 <= found.bins <= max(most, 2)


def test_a_time_is_in_the_bin_that_begins_at_it() -> None:
    bins = Grid(1000, 10, 3).numbers(np.array([999, 1000, 1009, 1010, 1029, 1030]))
    assert bins.tolist() == [-1, 0, 0, 1, 2, 3]


def _durations(kind: str, count: int) -> np.ndarray:
    values = np.random.default_rng(7).lognormal(-4, 2, count).round(9)
    if kind == "not whole nanoseconds":
        values[3] += 1e-10
    elif kind == "negative":
        values[3] = -1.0
    elif kind == "a year":
        values[3] = 365 * 86400.0
    return values


_KINDS = ("whole nanoseconds", "not whole nanoseconds", "negative", "a year")


@pytest.mark.parametrize("kind", _KINDS)
def test_quantiles_and_counts_are_those_of_numpy(kind: str) -> None:
    values = _durations(kind, 2000)
    cells = np.random.default_rng(8).integers(0, 40, len(values))
    cells[cells == 5] = 6
    sorted_cells = SortedCells(cells, values, 41)
    assert sorted_cells.counts.tolist() == np.bincount(cells, minlength=41).tolist()
    for share in (0, 0.5, 0.9, 0.99, 1):
        found = sorted_cells.quantile(share)
        for cell in range(41):
            inside = values[cells == cell]
            if len(inside):
                assert found[cell] == np.quantile(inside, share)
            else:
                assert np.isnan(found[cell])


@pytest.mark.parametrize("kind", _KINDS)
def test_quantiles_of_several_cells_together_are_those_of_numpy(kind: str) -> None:
    values = _durations(kind, 2000)
    cells = np.random.default_rng(8).integers(0, 40, len(values))
    shares = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
    found = SortedCells(cells, values, 40).total_quantiles(10, 20, shares)
    assert found == np.quantile(values[(cells >= 10) & (cells < 30)], shares).tolist()


def test_quantiles_of_no_durations_are_not_numbers() -> None:
    cells = SortedCells(np.array([0, 3]), np.array([1.0, 1.0]), 4)
    assert np.isnan(cells.total_quantiles(1, 2, (0.5,))[0])


@pytest.mark.parametrize("kind", _KINDS)
def test_each_observation_is_in_the_bucket_between_whose_edges_it_lies(kind: str) -> None:
    values = _durations(kind, 2000)
    cells = np.random.default_rng(8).integers(0, 40, len(values))
    heat = SortedCells(cells, values, 40).heat(10, 20)
    edges = heat.edges_s.copy()
    edges[0], edges[-1] = -np.inf, np.inf
    for row, counts in enumerate(heat.counts):
        wanted, _ = np.histogram(values[cells == 10 + row], edges)
        assert counts.tolist() == wanted.tolist()
    assert len(heat.edges_s) <= 97


def test_buckets_are_as_fine_as_their_number_permits() -> None:
    narrow = SortedCells(np.zeros(2, dtype=np.int64), np.array([0.1, 0.2]), 1).heat(0, 1)
    wide = SortedCells(np.zeros(2, dtype=np.int64), np.array([1e-9, 1e5]), 1).heat(0, 1)
    assert narrow.edges_s[1] / narrow.edges_s[0] == pytest.approx(2 ** (1 / 16))
    assert wide.edges_s[1] / wide.edges_s[0] == pytest.approx(2 ** (1 / 2))


def test_what_is_not_a_number_is_left_out() -> None:
    cells = SortedCells(np.array([0, 0, 1]), np.array([np.nan, 2.0, np.nan]), 2)
    assert cells.counts.tolist() == [1, 0]
    assert cells.quantile(0.5)[0] == 2.0


def test_without_durations_all_is_empty() -> None:
    cells = SortedCells(np.empty(0, dtype=np.int64), np.empty(0), 3)
    assert cells.counts.tolist() == [0, 0, 0]
    assert np.isnan(cells.quantile(0.5)).all()
    assert cells.heat(0, 3).counts.shape == (3, 0)


def test_durations_of_zero_are_in_the_first_bucket() -> None:
    heat = SortedCells(np.zeros(3, dtype=np.int64), np.array([0.0, 0.0, 1e-8]), 1).heat(0, 1)
    assert heat.counts[0, 0] == 2
    assert heat.counts.sum() == 3
