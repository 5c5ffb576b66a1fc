from __future__ import annotations

import numpy as np
import pytest

from aqltelemetry.views.live.buckets import BUCKETS, MAX_ERROR, Buckets, bucket_numbers, counted


def _filled(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Buckets:
    buckets = Buckets((0.0, 0.5, 0.9, 0.99, 1.0))
    buckets.reserve(1)
    buckets.add(*counted(bucket_numbers(values)))
    return buckets


@pytest.mark.parametrize("size", [1, 2, 3, 10, 5000])
def test_percentiles_are_within_the_error_of_those_of_numpy(size: int) -> None:
    values = np.random.default_rng(size).lognormal(-7, 2, size)
    found = _filled(values).percentiles()[0]
    exact = np.quantile(values, (0.0, 0.5, 0.9, 0.99, 1.0))
    assert np.abs(found / exact - 1).max() <= MAX_ERROR


def test_counts_that_are_subtracted_leave_the_others() -> None:
    first, second = np.array([0.001, 0.002, 0.003]), np.array([0.5, 0.6])
    buckets = _filled(first)
    buckets.add(*counted(bucket_numbers(second)))
    buckets.subtract(*counted(bucket_numbers(first)))
    assert buckets.percentiles().tolist() == _filled(second).percentiles().tolist()


def test_rows_without_values_have_no_percentiles() -> None:
    buckets = Buckets()
    buckets.reserve(2)
    buckets.add(*counted(BUCKETS + bucket_numbers(np.array([0.25]))))
    assert np.isnan(buckets.percentiles()[0]).all()
    assert buckets.percentiles()[1] == pytest.approx([0.25, 0.25], rel=MAX_ERROR)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-12, 1e9])
def test_values_outside_are_counted_in_the_first_or_last_bucket(value: float) -> None:
    assert bucket_numbers(np.array([value]))[0] == (BUCKETS - 1 if value > 1 else 0)


def test_counting_by_sorting_and_by_position_is_the_same() -> None:
    keys = np.array([7, 3, 7, 10**9])
    assert [each.tolist() for each in counted(keys)] == [[3, 7, 10**9], [1, 2, 1]]
    assert [each.tolist() for each in counted(keys[:3])] == [[3, 7], [1, 2]]
