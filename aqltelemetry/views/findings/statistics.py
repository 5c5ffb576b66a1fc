"""The statistics of the rules: robust, without assumptions on distributions where that is possible.

Durations have long tails, requests come in bursts, and neighbouring seconds are alike. So
levels are medians, scales are median absolute deviations, and errors of shares are computed from
whole bins of time instead of single requests.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_MAD_TO_SIGMA = 1.4826
_EDGE_BINS = 3
_MAX_ALIKE = 0.95
_SHARP = 0.7
_MAX_HIGH_OUTSIDE = 0.1
_MAX_LOW_INSIDE = 0.2
_MAX_PAIRED = 150


class Segment(NamedTuple):
    """Adjacent bins `begin <= bin < end` whose level differs from that of the others.

    `inside` and `outside` are the medians of the values; `score` is their difference in standard
    errors.
    """

    begin: int
    end: int
    inside: float
    outside: float
    score: float


def scale(values: Floats) -> float:
    """Return the median absolute deviation, as an estimate of the standard deviation.

    It is multiplied by 1.4826, which makes it right for a normal distribution (Hampel, "The
    influence curve and its role in robust estimation", 1974).
    """
    return float(_MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def raised_segment(values: Floats, least_bins: int, *, least_noise: float = 0.0) -> Segment | None:
    """Return the segment of bins that lies the highest above the others, if there is one.

    This is the segment of circular binary segmentation (Olshen et al., "Circular binary
    segmentation for the analysis of array-based DNA copy number data", 2004): of all segments, the
    one with the largest difference between the means inside and outside, in standard errors.
    The noise of a bin is the largest of four robust estimates: from differences of bins
    that are 1, 2 and 4 bins apart, and from what remains without the step. The error is larger if
    neighbouring bins are alike.

    None if the segment is not a step: at both of its ends that are not ends of the recording, at
    least 70 % of the difference must be between the medians of three bins before and after; at most
    10 % of the outer bins may be in its upper half, and at most 20 % of the inner ones in its lower
    half. So a slow trend, a wave and a repeated change are no segments.

    Args:
        values: The levels of n bins of time.
        least_bins: The least number of bins inside, and of bins outside.
        least_noise: The least noise of a bin to assume.
    """
    count = len(values)
    if count < 2 * least_bins:
        return None
    noise = max(_noise(values), least_noise)
    begin, end = _highest(values, least_bins)
    within = np.zeros(count, bool)
    within[begin:end] = True
    inside, outside = float(np.median(values[within])), float(np.median(values[~within]))
    rest = values - np.where(within, inside, outside)
    noise = max(noise, scale(rest))
    step = inside - outside
    middle = (inside + outside) / 2
    if step <= 0 or noise == 0:
        return None
    is_step = (
        _edge(values, begin, 1) >= _SHARP * step
        and _edge(values, end, -1) >= _SHARP * step
        and np.mean(values[~within] > middle) <= _MAX_HIGH_OUTSIDE
        and np.mean(values[within] < middle) <= _MAX_LOW_INSIDE
    )
    length = end - begin
    error = noise * _inflation(rest) * np.sqrt(1 / length + 1 / (count - length))
    return Segment(begin, end, inside, outside, step / float(error)) if is_step else None


def _noise(values: Floats) -> float:
    return max(scale(values[lag:] - values[:-lag]) / math.sqrt(2) for lag in (1, 2, 4))


def _inflation(rest: Floats) -> float:
    """Return by what factor the error of a mean is larger since neighbours are alike.

    For noise with a correlation r of neighbours, sqrt((1 + r) / (1 - r)) (Bartlett, "On the
    theoretical specification and sampling properties of autocorrelated time-series", 1946).
    """
    limit = 3 * scale(rest)
    kept = np.clip(rest, -limit, limit)
    kept = kept - kept.mean()
    square = float(np.sum(kept**2))
    alike = float(np.sum(kept[1:] * kept[:-1])) / square if square else 0.0
    alike = min(max(alike, 0.0), _MAX_ALIKE)
    return math.sqrt((1 + alike) / (1 - alike))


def _highest(values: Floats, least_bins: int) -> tuple[int, int]:
    count = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    begins, ends = np.triu_indices(count + 1, least_bins)
    lengths = ends - begins
    fits = count - lengths >= least_bins
    begins, ends, lengths = begins[fits], ends[fits], lengths[fits]
    inner = sums[ends] - sums[begins]
    means = inner / lengths - (sums[-1] - inner) / (count - lengths)
    best = int(np.argmax(means * np.sqrt(lengths * (count - lengths))))
    return int(begins[best]), int(ends[best])


def _edge(values: Floats, at: int, sign: int) -> float:
    """Return how much the level rises (or falls, for a sign of -1) at a bin.

    One bin at the edge may be left out, since a change is rarely between two bins.
    """
    if at in (0, len(values)):
        return np.inf
    levels = sign * values
    before = [levels[max(end - _EDGE_BINS, 0) : end] for end in (at, at - 1) if end > 0]
    after = [levels[begin : begin + _EDGE_BINS] for begin in (at, at + 1) if begin < len(levels)]
    return max(map(float, map(np.median, after))) - min(map(float, map(np.median, before)))


class Share(NamedTuple):
    """A share of observations, and its standard error by clusters."""

    value: float
    error: float
    hits: int
    total: int


def share_by_bins(hits: npt.NDArray[Any], bins: npt.NDArray[Any], number: int) -> Share:
    """Return the share of observations that are hits, and its standard error.

    Observations of the same bin of time are alike: a pause makes all requests slow that it meets.
    So the bins are the sample, and the error is that of a ratio of two sums over them (Cochran,
    "Sampling Techniques", 3rd edition, 1977, equation 6.13).

    Args:
        hits: Whether each of n observations is a hit.
        bins: The bin of each observation, from 0 to `number` - 1.
        number: How many bins there are.
    """
    counts = np.bincount(bins, minlength=number)
    hit = np.bincount(bins, weights=hits, minlength=number)
    total = int(counts.sum())
    value = float(hit.sum() / total)
    filled = int(np.count_nonzero(counts))
    if filled < 2:  # noqa: PLR2004 - one bin does not show how bins differ
        return Share(value, math.inf, int(hit.sum()), total)
    spread = np.sum((hit - value * counts) ** 2) * filled / (filled - 1)
    return Share(value, float(np.sqrt(spread)) / total, int(hit.sum()), total)


def difference_score(one: Share, other: Share) -> float:
    """Return by how many standard errors one share is larger, with equal independent hits.

    The test of two proportions with their pooled estimate.
    """
    pooled = (one.hits + other.hits) / (one.total + other.total)
    error = np.sqrt(pooled * (1 - pooled) * (1 / one.total + 1 / other.total))
    return float((one.value - other.value) / error) if error else 0.0


def clustered_score(one: Share, other: Share) -> float:
    """Return by how many standard errors one share is larger, with the errors by clusters."""
    error = math.hypot(one.error, other.error)
    difference = one.value - other.value
    if error == 0:  # all bins are the same
        return math.inf if difference > 0 else 0.0
    return difference / error


def least_quantile(in_order: Floats, level: float, errors: float) -> float:
    """Return a lower limit of a quantile that holds for any distribution.

    It is the order statistic that is a number of standard errors of the binomial distribution
    below the quantile's own (David and Nagaraja, "Order Statistics", 3rd edition, 2003, section
    7.1).

    Args:
        in_order: The sorted sample, n values.
        level: The quantile, 0 to 1.
        errors: How many standard errors; 3.1 holds in 999 of 1,000 cases.
    """
    count = len(in_order)
    rank = level * count - errors * np.sqrt(count * level * (1 - level))
    return float(in_order[max(int(rank) - 1, 0)])


class Line(NamedTuple):
    """A straight line through samples: its slope, its value at the first one, and R²."""

    slope: float
    first: float
    r_squared: float


def fitted_line(times: Floats, values: Floats) -> Line:
    """Return the line of Theil and Sen, which up to 29 % of outliers do not move much.

    The slope is the median of the slopes of all pairs (Sen, "Estimates of the regression
    coefficient based on Kendall's tau", 1968), of at most 150 samples at equal distances. R² is
    the share of the variance of all samples that the line explains.
    """
    chosen = np.unique(np.linspace(0, len(times) - 1, _MAX_PAIRED).astype(int))
    at, level = times[chosen], values[chosen]
    one, other = np.triu_indices(len(at), 1)
    slope = float(np.median((level[other] - level[one]) / (at[other] - at[one])))
    first = float(np.median(values - slope * (times - times[0])))
    rest = values - first - slope * (times - times[0])
    variance = float(np.sum((values - values.mean()) ** 2))
    explained = 1 - float(np.sum(rest**2)) / variance if variance else 0.0
    return Line(slope, first, max(explained, 0.0))
