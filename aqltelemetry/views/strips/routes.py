"""Computes the strips of routes, which are the labels of durations."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import FIRST_BYTE
from aqltelemetry.reading.outcomes import OUTCOMES, roles
from aqltelemetry.views.strips.cells import Cells, Floats, Heat, Integers

ALL_REQUESTS = "all requests"
"""The label of the strip of all requests together."""
ALL_DURATIONS = "all durations"
"""The label of the strip of all durations together, where no requests were recorded."""
_REQUEST = re.compile(r"(.* \[[A-Z]+\]|unmatched)")
_TTFB = f" {FIRST_BYTE}"
_SPARKLINE_POINTS = 40


@dataclass(frozen=True, slots=True)
class Totals:
    """The durations of a label over all bins together."""

    count: int
    p50_s: float
    """Exact percentiles in seconds, NaN where there are no durations."""
    p90_s: float
    p95_s: float
    p99_s: float
    p999_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class RouteStrip:
    """The durations of one label over time; each array has one element for each bin.

    An observation belongs to the bin that its end lies in.
    """

    label: str
    count: Integers
    """Observations, without those of outcomes, which count some of them again."""
    p50_s: Floats
    """Exact percentiles in seconds, interpolated linearly as `TelemetryDB.summary` does."""
    p90_s: Floats
    p99_s: Floats
    max_s: Floats
    errors: Mapping[str, Integers]
    """Observations by outcome: `4xx`, `5xx`, `disconnect`, `failed`; only those that occur."""
    heat: Heat
    totals: Totals


class Labels(NamedTuple):
    """Labels without outcomes."""

    names: Sequence[str]
    of_code: Integers
    """The index into `names` of each label that was given; also of one with an outcome."""
    outcome_of_code: Integers
    """The index into `OUTCOMES` of each; -1 if it has none."""


def without_outcomes(names: Sequence[str]) -> Labels:
    """Return the labels without outcomes, and which of them each label is an outcome of."""
    known = roles(names)
    codes, of_code = np.unique(known.bases, return_inverse=True)
    return Labels([names[code] for code in codes], of_code, known.outcomes.astype(np.int64))


class Routes:
    """The labels of durations, without outcomes, and how often each occurs.

    Args:
        names: The labels as they were recorded.
        counts: For each of them and each bin, how many durations there are.
    """

    def __init__(self, names: Sequence[str], counts: Integers) -> None:
        self._recorded_names, self._recorded_counts = names, counts
        self._labels = without_outcomes(names)
        self._is_total: npt.NDArray[np.bool_] = self._labels.outcome_of_code < 0
        self._bases = self._labels.of_code
        self._bins = counts.shape[1]
        # Label x bin: 10,000 labels at most for each process, so a few megabytes.
        self._counts: Integers = np.zeros((len(self._labels.names), self._bins), np.int64)
        np.add.at(self._counts, self._bases[self._is_total], counts[self._is_total])
        self._totals: Integers = self._counts.sum(axis=1)

    def busiest(self, most: int) -> list[str]:
        """Return the labels with the most observations, those of whole requests first."""
        names = self._labels.names
        order = sorted(
            (number for number in range(len(names)) if self._totals[number]),
            key=lambda number: (names[number].endswith(_TTFB), -self._totals[number]),
        )
        return [names[number] for number in order[:most]]

    @property
    def labels(self) -> int:
        """The number of labels, without outcomes, that occur."""
        return int(np.count_nonzero(self._totals))

    def occurring(self, labels: Collection[str | int]) -> set[str]:
        """Return those of the labels that occur."""
        return set(self.busiest(self.labels)) & set(labels)

    def are_requests(self) -> npt.NDArray[np.bool_]:
        """Return for each recorded label whether it is that of a request, without outcomes.

        Where there are no requests, all durations are meant, without outcomes and first bytes.
        """
        names = self._recorded_names
        found = np.array([_is_request(name) for name in names], dtype=bool)
        found &= self._is_total & (self._totals[self._bases] > 0)
        if not found.any():
            found |= self._is_total
            found &= np.array([not name.endswith(_TTFB) for name in names], dtype=bool)
        return found

    def numbers(self, labels: Sequence[str]) -> Integers:
        """Return for each recorded label its index in `labels`, -1 for others and for outcomes."""
        return np.where(self._is_total, self._base_numbers(labels)[self._bases], -1)

    def _base_numbers(self, labels: Sequence[str]) -> Integers:
        number = {label: index for index, label in enumerate(labels)}
        return np.array([number.get(name, -1) for name in self._labels.names], dtype=np.int64)

    def sparklines(self, labels: Sequence[str]) -> Mapping[str, Integers]:
        """Return the number of observations of labels over time, at 40 points at most."""
        width = -(-self._bins // _SPARKLINE_POINTS)
        coarse = np.add.reduceat(self._counts, np.arange(0, self._bins, width), axis=1)
        number = {name: index for index, name in enumerate(self._labels.names)}
        return {label: coarse[number[label]] for label in labels}

    def strips(self, labels: Sequence[str], cells: Cells) -> list[RouteStrip]:
        """Return the strips of labels, in their order; empty ones of labels that do not occur.

        `cells` has a group for each label, after that of all requests.
        """
        groups = self._base_numbers(labels)[self._bases]
        return [
            _strip(label, cells, number + 1, self._errors(groups == number))
            for number, label in enumerate(labels)
        ]

    def overall(self, cells: Cells) -> RouteStrip:
        """Return the strip of all requests together, or of all durations if there are none."""
        chosen = self.are_requests()
        names = [name for name, used in zip(self._recorded_names, chosen, strict=True) if used]
        label = ALL_REQUESTS if any(map(_is_request, names)) else ALL_DURATIONS
        bases = np.zeros(len(self._labels.names), dtype=bool)
        bases[self._bases[chosen]] = True
        return _strip(label, cells, 0, self._errors(bases[self._bases]))

    def _errors(self, is_wanted: npt.NDArray[np.bool_]) -> Mapping[str, Integers]:
        """Return the observations of some labels by outcome and bin, of outcomes that occur."""
        outcomes = self._labels.outcome_of_code
        found = {
            word: self._recorded_counts[is_wanted & (outcomes == number)].sum(axis=0)
            for number, word in enumerate(OUTCOMES)
        }
        return {word: counts for word, counts in found.items() if counts.any()}


def _is_request(name: str) -> bool:
    return _REQUEST.fullmatch(name) is not None


def _strip(label: str, cells: Cells, group: int, errors: Mapping[str, Integers]) -> RouteStrip:
    count = cells.count[group]
    return RouteStrip(
        label,
        count,
        cells.p50_s[group],
        cells.p90_s[group],
        cells.p99_s[group],
        cells.max_s[group],
        errors,
        cells.heats[group],
        Totals(int(count.sum()), *cells.totals_s[group]),
    )
