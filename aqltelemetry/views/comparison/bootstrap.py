"""Estimates how much percentiles, shares and rates vary by chance, by a block bootstrap.

Observations that follow one another are alike: a pause of the garbage collector or a burst of
requests affects many. So blocks of consecutive observations are drawn, and not single ones:
E. Carlstein, "The Use of Subseries Values for Estimating the Variance of a General Statistic from
a Stationary Sequence", Annals of Statistics 14, 1986. The standard deviation of a figure over all
draws is its standard error: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap",
1993, chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

BLOCKS = 50
"""Into how many blocks a series is divided: long enough to hold a burst, enough to draw from."""
DRAWS = 400
"""How often blocks are drawn: a standard error is known to 1 / sqrt(2 * DRAWS), or 3.5 %."""
_GRID = 600
_MAX_Z = 3.5
_MIN_S = 1e-9


class Draws:
    """Blocks drawn with replacement, the same for each call, as how often each one is drawn."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[int, Floats] = {}

    def of(self, blocks: int) -> Floats:
        """Return DRAWS x `blocks` numbers; the sum of each row is `blocks`."""
        if blocks not in self._known:
            rng = np.random.default_rng((self._seed, blocks))
            drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=DRAWS)
            self._known[blocks] = drawn.astype(np.float64)
        return self._known[blocks]


def quantile_errors(values_s: Floats, shares: Sequence[float], draws: Draws) -> Floats:
    """Return the standard errors of the logarithms of quantiles.

    Args:
        values_s: n durations in the order of time, in seconds, n >= 2.
        shares: The quantiles, from 0 to 1.
        draws: What blocks are drawn.

    Returns:
        An error for each quantile: 0.02 says that it varies by about 2 % by chance.

    The quantile of each draw is read off the cumulative counts of its blocks at 600 quantiles of
    all values, with linear interpolation, so that no draw has to be sorted.
    """
    blocks = blocks_of(len(values_s))
    grid = _grid(values_s)
    cells = np.searchsorted(grid, values_s)
    cells += np.arange(len(values_s)) * blocks // len(values_s) * len(grid)
    counts = np.bincount(cells, minlength=blocks * len(grid)).reshape(blocks, len(grid))
    below = draws.of(blocks) @ counts.cumsum(axis=1)
    logs = np.log(np.maximum(grid, _MIN_S))
    return np.array([_quantiles(logs, below, share).std(ddof=1) for share in shares])


def _grid(values_s: Floats) -> Floats:
    """Return up to 600 of the values, in order: closest to each other in the tails."""
    ordered = np.sort(values_s)
    if len(ordered) > _GRID:
        normal = NormalDist()
        shares = [normal.cdf(z) for z in np.linspace(-_MAX_Z, _MAX_Z, _GRID - 2)]
        places = np.rint(np.array([0, *shares, 1]) * (len(ordered) - 1)).astype(np.int64)
        ordered = ordered[places]
    return np.unique(ordered)


def _quantiles(grid: Floats, below: Floats, share: float) -> Floats:
    """Return a quantile of each draw; `below` counts its values up to each value of the grid."""
    wanted = share * (below[:, -1] - 1) + 1
    upper = np.minimum((below < wanted[:, None]).sum(axis=1), len(grid) - 1)
    lower = np.maximum(upper - 1, 0)
    rows = np.arange(len(below))
    low, high = below[rows, lower], below[rows, upper]
    weight = np.clip((wanted - low) / np.maximum(high - low, 1), 0, 1)
    found: Floats = grid[lower] + weight * (grid[upper] - grid[lower])
    return found


def share_error(hits: Integers, of: Integers, draws: Draws) -> float:
    """Return the standard error of a share, of `hits` in each block out of `of` in each block."""
    weights = draws.of(len(of))
    return float(np.std((weights @ hits) / np.maximum(weights @ of, 1), ddof=1))


def count_error(counts: Integers, draws: Draws) -> float:
    """Return the standard error of the logarithm of a number of events.

    `counts` are the events in each of several equally long blocks of time.
    """
    drawn = draws.of(len(counts)) @ counts
    return float(np.std(np.log(np.maximum(drawn, 0.5)), ddof=1))


def student_t(two_sided: float, degrees: int) -> float:
    """Return the value that Student's t exceeds, in either direction, with a probability.

    By the expansion 26.7.5 in Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964,
    which from ten degrees of freedom on is exact to 1 % for probabilities above 1e-5.
    """
    z = -NormalDist().inv_cdf(two_sided / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, 1))


def blocks_of(observations: int) -> int:
    """Return into how many blocks so many observations are divided."""
    return min(BLOCKS, math.isqrt(observations))
