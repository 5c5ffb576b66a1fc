from __future__ import annotations

import math

import numpy as np
import pytest

from aqltelemetry.views.comparison import bootstrap
from aqltelemetry.views.comparison.bootstrap import (
    BLOCKS,
    DRAWS,
    Draws,
    blocks_of,
    count_error,
    quantile_errors,
    share_error,
    student_t,
)

_SHARES = (0.5, 0.95, 0.99)
_DRAWS = Draws(1)


def test_the_error_of_a_quantile_is_how_much_it_varies_between_samples() -> None:
    rng = np.random.default_rng(1)
    samples = np.exp(rng.normal(0, 0.5, (300, 3_000)))
    expected = np.log(np.quantile(samples, _SHARES, axis=1)).std(axis=1)
    found = np.median([quantile_errors(each, _SHARES, _DRAWS) for each in samples[:40]], axis=0)
    assert found == pytest.approx(expected, rel=0.15)


def test_the_error_accounts_for_observations_that_are_alike() -> None:
    """Each value 30 times in a row is as uncertain as a thirtieth of them."""
    rng = np.random.default_rng(2)
    alike = np.repeat(np.exp(rng.normal(0, 0.5, 1_000)), 30)
    shuffled = rng.permutation(alike)
    ratio = quantile_errors(alike, (0.5,), _DRAWS) / quantile_errors(shuffled, (0.5,), _DRAWS)
    assert ratio[0] == pytest.approx(math.sqrt(30), rel=0.35)


def test_a_draw_of_all_blocks_once_has_the_quantiles_of_the_values() -> None:
    values = np.sort(np.random.default_rng(3).exponential(1, 500))
    grid = bootstrap._grid(values)
    below = np.searchsorted(values, grid, "right")[None, :].astype(float)
    for share in _SHARES:
        (found,) = bootstrap._quantiles(grid, below, share)
        assert found == pytest.approx(np.quantile(values, share))


def test_a_constant_has_no_error() -> None:
    assert quantile_errors(np.full(500, 0.25), _SHARES, _DRAWS).max() < 1e-12


def test_the_error_of_a_share_is_the_binomial_one_for_independent_hits() -> None:
    hits = np.random.default_rng(4).binomial(1_000, 0.1, BLOCKS)
    found = share_error(hits, np.full(BLOCKS, 1_000), _DRAWS)
    assert found == pytest.approx(math.sqrt(0.1 * 0.9 / (1_000 * BLOCKS)), rel=0.35)


def test_the_error_of_a_count_is_that_of_poisson_for_independent_events() -> None:
    counts = np.random.default_rng(5).poisson(100, BLOCKS)
    assert count_error(counts, _DRAWS) == pytest.approx(1 / math.sqrt(100 * BLOCKS), rel=0.35)


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = (Draws(seed).of(20) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert first.shape == (DRAWS, 20)
    assert (first.sum(axis=1) == 20).all()


def test_blocks_hold_more_observations_the_more_there_are() -> None:
    assert [blocks_of(count) for count in (1, 100, 1_000, 10**6)] == [1, 10, 31, BLOCKS]


@pytest.mark.parametrize("degrees", [9, 19, 49])
@pytest.mark.parametrize("two_sided", [0.05, 0.001, 0.00005])
def test_student_t_is_exceeded_with_the_probability(degrees: int, two_sided: float) -> None:
    """By integration of its density."""
    bound = student_t(two_sided, degrees)
    at = np.linspace(bound, 400, 2_000_001)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    scale = math.exp(log_scale) / math.sqrt(degrees * math.pi)
    density = scale * (1 + at**2 / degrees) ** (-(degrees + 1) / 2)
    area = (density[:-1] + density[1:]).sum() / 2 * (at[1] - at[0])
    assert 2 * area == pytest.approx(two_sided, rel=0.12)
