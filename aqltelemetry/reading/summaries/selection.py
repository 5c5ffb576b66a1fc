"""Finds exact quantiles of groups of values: by selection, which takes less time than sorting."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.summaries.threads import map_all, number_for
from aqltelemetry.system.extensions import load

Floats = npt.NDArray[np.float64]
Indexes = npt.NDArray[np.int64]
compiled: Any = load(__name__)
"""The compiled twin, or None."""


class Runs(NamedTuple):
    """Groups of values: the values of each are one or several runs, `values[begin:end]`.

    Attributes:
        begins: Where each run begins.
        ends: Where each run ends.
        firsts: The number of the first run of each group, and the number of all runs.
    """

    begins: Indexes
    ends: Indexes
    firsts: Indexes

    @staticmethod
    def of_counts(counts: Indexes) -> Runs:
        """Return groups of one run each, one behind the other."""
        ends = np.cumsum(counts)
        return Runs(ends - counts, ends, np.arange(len(counts) + 1))

    @property
    def counts(self) -> Indexes:
        """How many values each group has."""
        sums = np.concatenate([[0], np.cumsum(self.ends - self.begins)])
        counts: Indexes = np.diff(sums[self.firsts])
        return counts

    def between(self, first: int, last: int) -> Runs:
        """Return the groups `first <= i < last`."""
        firsts = self.firsts[first : last + 1]
        runs = slice(int(firsts[0]), int(firsts[-1]))
        return Runs(self.begins[runs], self.ends[runs], firsts - firsts[0])


def quantiles(values: Floats, runs: Runs, known: Indexes, shares: Sequence[float]) -> Floats:
    """Return quantiles of each group, without values that are NaN.

    The result is that of `numpy.quantile`: with linear interpolation between the two nearest
    values. If one of these is infinite, so is the result; it is NaN for a group of NaN.

    Args:
        values: The values of all groups.
        runs: The k groups, none of them empty.
        known: How many values of each group are not NaN.
        shares: m numbers from 0 to 1, such as 0.99.

    Returns:
        k rows of m quantiles.
    """
    last = np.maximum(known - 1, 0)[:, None]
    place = last * np.asarray(shares, np.float64)
    lower = np.floor(place)
    first = lower.astype(np.int64)
    ranks = np.hstack([first, np.minimum(first + 1, last)])
    low, high = np.hsplit(_at_ranks(values, runs, ranks), 2)
    found = _between(low, high, place - lower)
    found[known == 0] = np.nan
    return found


def quantiles_of(values: Floats, *shares: float) -> Sequence[float]:
    """Return quantiles of some values, none of which is NaN; NaN if there are none."""
    count = np.array([len(values)])
    if not len(values):
        return [np.nan] * len(shares)
    found: list[float] = quantiles(values, Runs.of_counts(count), count, shares)[0].tolist()
    return found


def _at_ranks(values: Floats, runs: Runs, ranks: Indexes) -> Floats:
    """Return the values that would have some ranks if each group were sorted, NaN last."""
    order = np.argsort(ranks, axis=1, kind="stable")
    in_order = np.take_along_axis(ranks, order, 1)
    found = np.empty(ranks.shape)
    select = _select if compiled is None else compiled.select
    values = np.ascontiguousarray(values)

    def fill(groups: tuple[int, int]) -> None:
        first, last = groups
        some = runs.between(first, last)
        select(values, *some, np.ascontiguousarray(in_order[first:last]), found[first:last])

    counts = runs.counts
    map_all(fill, _parts(counts), int(counts.sum()))
    np.put_along_axis(found, order, found.copy(), 1)
    return found


def _parts(counts: Indexes) -> list[tuple[int, int]]:
    """Divide groups into parts of about as many values."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    number = 2 * number_for(total)
    bounds = np.searchsorted(ends, [total * part // number for part in range(1, number)])
    edges = np.unique([0, *bounds.tolist(), len(counts)]).tolist()
    return [*itertools.pairwise(edges)]


def _select(  # noqa: PLR0913, PLR0917 - as the extension
    values: Floats, begins: Indexes, ends: Indexes, firsts: Indexes, ranks: Indexes, out: Floats
) -> None:
    for group, wanted in enumerate(ranks):
        runs = range(int(firsts[group]), int(firsts[group + 1]))
        own = np.concatenate([values[begins[run] : ends[run]] for run in runs])
        own.partition(np.unique(wanted).tolist())
        out[group] = own[wanted]


def _between(low: Floats, high: Floats, share: Floats) -> Floats:
    """Interpolate as numpy's `quantile` does, to the last bit."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = high - low
        found = low + difference * share
        np.subtract(high, difference * (1 - share), out=found, where=share >= 0.5)  # noqa: PLR2004
        # Where a neighbour is infinite, these give NaN.
        found = np.where(np.isfinite(low) & np.isfinite(high), found, low + high)
    exact: Floats = np.where((share == 0) | (low == high), low, found)
    return exact
