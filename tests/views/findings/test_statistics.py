from __future__ import annotations

import numpy as np
import pytest

from aqltelemetry.views.findings.statistics import (
    clustered_score,
    difference_score,
    fitted_line,
    least_quantile,
    raised_segment,
    scale,
    share_by_bins,
)


def _noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, count)


def test_the_scale_is_the_standard_deviation_whatever_the_outliers() -> None:
    values = _noise(10_000)
    values[:2000] = 1e6
    assert scale(values) == pytest.approx(0.13, abs=0.01)
    assert scale(_noise(10_000)) == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize(("begin", "end"), [(20, 30), (35, 60), (1, 5), (10, 40)])
def test_a_raised_segment_is_found(begin: int, end: int) -> None:
    values = _noise(60)
    values[begin:end] += 1
    found = raised_segment(values, 3)
    assert found is not None
    assert (found.begin, found.end) == (begin, end)
    assert found.inside - found.outside == pytest.approx(1, abs=0.1)
    assert found.score > 8


def test_noise_has_no_segment_of_a_high_score() -> None:
    found = [raised_segment(_noise(60, seed), 3) for seed in range(500)]
    assert max(each.score for each in found if each is not None) < 5.5


def test_noise_that_lasts_for_some_bins_has_hardly_a_segment_of_a_high_score() -> None:
    def lasting(seed: int) -> np.ndarray:
        level, levels = 0.0, []
        for noise in _noise(60, seed):
            level = 0.8 * level + noise
            levels.append(level)
        return np.array(levels)

    found = [raised_segment(lasting(seed), 3) for seed in range(500)]
    assert sum(each is not None and each.score > 6 for each in found) <= 10


_TIMES = np.linspace(0, 1, 60)
_SHAPES = {
    "a slow trend": 2 * _TIMES,
    "a wave": np.sin(2 * np.pi * _TIMES),
    "half a wave": np.sin(np.pi * _TIMES),
    "several steps": np.where(_TIMES * 6 % 2 < 1, 1.0, 0.0),
    "a decay": np.exp(-_TIMES * 20),
    "a step down": np.where(_TIMES < 0.5, 1.0, 0.0),
}


@pytest.mark.parametrize("shape", _SHAPES)
def test_other_changes_are_no_segments_after_the_begin(shape: str) -> None:
    found = raised_segment(_SHAPES[shape] + _noise(60) / 4, 3)
    assert found is None or found.begin == 0


def test_too_few_bins_and_equal_bins_have_no_segment() -> None:
    assert raised_segment(np.arange(5.0), 3) is None
    assert raised_segment(np.zeros(60), 3) is None


def test_the_error_of_a_share_counts_clusters_and_not_single_hits() -> None:
    bins = np.repeat(np.arange(20), 100)
    spread = np.random.default_rng(0).random(2000) < 0.1
    in_one_bin = bins == 3
    loose, tight = share_by_bins(spread, bins, 20), share_by_bins(in_one_bin, bins, 20)
    assert loose.value == pytest.approx(0.1, abs=0.02)
    assert loose.error == pytest.approx(np.sqrt(0.1 * 0.9 / 2000), rel=0.5)
    assert (tight.value, tight.hits, tight.total) == (0.05, 100, 2000)
    assert tight.error == pytest.approx(0.05, rel=0.05)


def test_shares_are_compared_with_and_without_clusters() -> None:
    bins = np.repeat(np.arange(20), 100)
    none = share_by_bins(np.zeros(2000), bins, 20)
    one_bin = share_by_bins(bins == 3, bins, 20)
    every_bin = share_by_bins(np.arange(2000) % 20 == 0, bins, 20)
    assert difference_score(one_bin, none) == pytest.approx(10.1, abs=0.1)
    assert clustered_score(one_bin, none) == pytest.approx(1, abs=0.1)
    assert difference_score(every_bin, none) == difference_score(one_bin, none)
    assert clustered_score(every_bin, none) == np.inf  # no bin differs from another
    assert clustered_score(none, none) == 0
    assert clustered_score(share_by_bins(np.ones(9), np.zeros(9, int), 20), none) == 0
    assert difference_score(none, none) == 0


def test_a_quantile_is_rarely_below_its_lower_limit() -> None:
    rng = np.random.default_rng(0)
    true = np.exp(2.3263)
    limits = [least_quantile(np.sort(rng.lognormal(size=500)), 0.99, 3.1) for _ in range(1000)]
    assert sum(limit > true for limit in limits) <= 5
    assert float(np.median(limits)) > 0.5 * true


def test_a_line_is_fitted_whatever_the_outliers() -> None:
    times = np.arange(1000.0)
    values = 3 * times + 100 + _noise(1000)
    line = fitted_line(times, values)
    assert line.slope == pytest.approx(3, rel=1e-3)
    assert line.first == pytest.approx(100, abs=1)
    assert line.r_squared == pytest.approx(1, abs=1e-6)
    values[::5] = 0
    assert fitted_line(times, values).slope == pytest.approx(3, rel=0.1)


def test_a_line_explains_nothing_of_noise_nor_of_equal_values() -> None:
    assert fitted_line(np.arange(100.0), _noise(100)).r_squared < 0.1
    assert fitted_line(np.arange(100.0), np.ones(100)).r_squared == 0
