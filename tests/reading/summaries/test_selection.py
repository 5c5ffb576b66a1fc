"""Quantiles are those of numpy, with and without the extension, in one thread and in several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.reading.summaries import selection, threads
from aqltelemetry.reading.summaries.selection import Runs, quantiles

_COMPILED = selection.compiled
_SHARES = [0.5, 0.0, 0.9, 0.99, 0.999, 1.0]
_FLOATS = st.one_of(
    st.floats(),
    st.integers(-3, 3).map(float),
    st.sampled_from([0.0, -0.0, 1e-308, 5e-324, float("nan"), -float("nan")]),
)
_GROUPS = st.lists(st.lists(st.lists(_FLOATS, max_size=40), max_size=3), max_size=5)


def _found(values: Any, runs: Runs, known: Any, compiled: Any, least: int) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "compiled", compiled)
        patch.setattr(threads, "_MIN_VALUES", least)
        return quantiles(values, runs, known, _SHARES)


def _runs(groups: list[list[list[float]]]) -> tuple[Any, Runs]:
    """Return the values of runs in reverse order, and the groups of these runs."""
    pieces = [np.array(run, np.float64) for group in groups for run in group]
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    ends = np.cumsum(lengths[::-1])[::-1].copy()
    values = np.concatenate([np.empty(0), *pieces[::-1]])
    firsts = np.cumsum([0, *map(len, groups)])
    return values, Runs(ends - lengths, ends, firsts)


@given(_GROUPS, st.sampled_from([1, 1000]))
def test_quantiles_are_those_of_numpy(groups: list[list[list[float]]], least: int) -> None:
    groups = [group for group in groups if any(group)]
    values, runs = _runs(groups)
    every = [np.array([value for run in group for value in run]) for group in groups]
    known = np.array([np.count_nonzero(~np.isnan(own)) for own in every], np.int64)
    before = values.copy()
    ours = _found(values, runs, known, _COMPILED, least)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(ours, _found(values, runs, known, None, least))
    assert ours.shape == (len(groups), len(_SHARES))
    for each, row in zip(every, ours, strict=True):
        own = each[~np.isnan(each)]
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = np.quantile(own, _SHARES) if len(own) else np.full(len(_SHARES), np.nan)
        finite = np.isfinite(wanted)
        np.testing.assert_array_equal(row[finite], wanted[finite])
        assert np.isnan(row).all() == (not len(own)) or not finite.any()


@pytest.mark.parametrize("kind", ["usual", "equal", "zeros", "outliers", "two", "negative"])
def test_quantiles_of_many_values_are_those_of_numpy(kind: str) -> None:
    chance = np.random.default_rng(7)
    usual = chance.lognormal(-4, 0.6, 30_000).round(9)
    values = {
        "usual": usual,
        "equal": np.full(30_000, 0.25),
        "zeros": np.where(chance.random(30_000) < 0.3, 0.0, usual),
        "outliers": np.where(chance.random(30_000) < 1e-3, 1e300 * usual, usual),
        "two": np.where(chance.random(30_000) < 0.5, 1.0, np.nextafter(1.0, 2.0)),
        "negative": chance.normal(0, 1e-3, 30_000),
    }[kind]
    counts = np.array([20_000, 1, 24, 25, 300, 9_650])
    runs = Runs.of_counts(counts)
    for compiled in (_COMPILED, None):
        found = _found(values, runs, counts, compiled, 1)
        for begin, end, row in zip(runs.begins, runs.ends, found, strict=True):
            np.testing.assert_array_equal(row, np.quantile(values[begin:end], _SHARES))


@pytest.mark.parametrize(
    ("begins", "ends", "firsts", "ranks"),
    [
        ([0], [4], [0, 1], [[0]]),  # behind the values
        ([-1], [1], [0, 1], [[0]]),
        ([2], [1], [0, 1], [[0]]),
        ([0], [3], [0, 2], [[0]]),  # no such run
        ([0], [3], [1, 0], [[0]]),
        ([0], [3], [0, 1], [[3]]),  # no such rank
        ([0], [3], [0, 1], [[-1]]),
        ([0], [3], [0, 1], [[2, 1]]),  # not in order
        ([0], [3], [0, 1], [[0] * 33]),
        ([0], [3], [0], [[0]]),
    ],
)
def test_the_extension_refuses_what_lies_outside(
    begins: Any, ends: Any, firsts: Any, ranks: Any
) -> None:
    if _COMPILED is None:
        pytest.skip("the extensions are not built, or are switched off")
    arguments = [np.array(each, np.int64) for each in (begins, ends, firsts, ranks)]
    with pytest.raises(ValueError, match=r"there must|is wrong"):
        _COMPILED.select(np.zeros(3), *arguments, np.zeros(np.shape(ranks)))
