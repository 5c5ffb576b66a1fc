"""Computes the strips of routes, which are the labels of durations."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aqltelemetry.observation import FIRST_BYTE
from aqltelemetry.reading.outcomes import OUTCOMES, roles
from aqltelemetry.views.strips.cells import Floats, Grid, Heat, Integers, SortedCells
from aqltelemetry.views.strips.rows import BinnedRows

ALL_REQUESTS = "all requests"
"""The label of the strip of all requests together."""
ALL_DURATIONS = "all durations"
"""The label of the strip of all durations together, where no requests were recorded."""
_REQUEST = re.compile(r"(.* \[[A-Z]+\]|unmatched)")
_TTFB = f" {FIRST_BYTE}"
_SPARKLINE_POINTS = 40
_TOTAL_SHARES = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


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
    """The labels of a frame's rows, without outcomes."""

    names: Sequence[str]
    of_code: Integers
    """The index into `names` of each code of a label; also of one with an outcome."""
    outcome_of_code: Integers
    """The index into `OUTCOMES` of each code; -1 if it has none."""


def without_outcomes(names: Sequence[str]) -> Labels:
    """Return the labels without outcomes, and which of them each label is an outcome of."""
    known = roles(names)
    codes, of_code = np.unique(known.bases, return_inverse=True)
    return Labels([names[code] for code in codes], of_code, known.outcomes.astype(np.int64))


class RouteRows:
    """The rows of durations, by label without outcome."""

    def __init__(self, rows: BinnedRows, window: Grid) -> None:
        self._rows, self._bins = rows, window.bins
        self._labels = without_outcomes(rows.names)
        self._is_total = self._labels.outcome_of_code < 0
        self._bases = self._labels.of_code
        # Label x bin: 10,000 labels at most for each process, so a few megabytes.
        cells = self._bases[rows.labels] * self._bins + rows.bins
        if not self._is_total.all():
            cells = cells[self._is_total[rows.labels]]
        shape = (len(self._labels.names), self._bins)
        counts = np.bincount(cells, minlength=shape[0] * shape[1])
        self._counts: Integers = counts.reshape(shape)
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

    def are_requests(self) -> Any:
        """Return for each code whether its label is that of a request, without outcomes.

        Where there are no requests, all durations are meant, without outcomes and first bytes.
        """
        names = self._rows.names
        found = np.array([_REQUEST.fullmatch(name) is not None for name in names], dtype=bool)
        found &= self._is_total & (self._totals[self._bases] > 0)
        if found.any():
            return found
        return self._is_total & np.array([not name.endswith(_TTFB) for name in names], dtype=bool)

    def sparklines(self, labels: Sequence[str]) -> Mapping[str, Integers]:
        """Return the number of observations of labels over time, at 40 points at most."""
        width = -(-self._bins // _SPARKLINE_POINTS)
        coarse = np.add.reduceat(self._counts, np.arange(0, self._bins, width), axis=1)
        number = {name: index for index, name in enumerate(self._labels.names)}
        return {label: coarse[number[label]] for label in labels}

    def strips(self, labels: Sequence[str]) -> list[RouteStrip]:
        """Return the strips of labels, in their order; empty ones of labels that do not occur."""
        number = {label: index for index, label in enumerate(labels)}
        route_of_base = np.array(
            [number.get(name, -1) for name in self._labels.names], dtype=np.int64
        )
        route_of_code = route_of_base[self._bases]
        cells = self._sorted(np.where(self._is_total, route_of_code, -1), len(labels))
        errors = self._errors(route_of_code, len(labels))
        return self._cut(cells, labels, errors)

    def overall(self) -> RouteStrip:
        """Return the strip of all requests together, or of all durations if there are none."""
        chosen = self.are_requests()
        names = [name for name, used in zip(self._rows.names, chosen, strict=True) if used]
        is_request = any(_REQUEST.fullmatch(name) for name in names)
        bases = np.zeros(len(self._labels.names), dtype=bool)
        bases[self._bases[chosen]] = True
        cells = self._sorted(np.where(chosen, 0, -1), 1)
        errors = self._errors(np.where(bases[self._bases], 0, -1), 1)
        return self._cut(cells, [ALL_REQUESTS if is_request else ALL_DURATIONS], errors)[0]

    def _sorted(self, group_of_code: Integers, groups: int) -> SortedCells:
        rows = self._rows
        group = group_of_code[rows.labels]
        drawn = group >= 0
        if drawn.all():
            return SortedCells(group * self._bins + rows.bins, rows.values, groups * self._bins)
        cells = group[drawn] * self._bins + rows.bins[drawn]
        return SortedCells(cells, rows.values[drawn], groups * self._bins)

    def _errors(self, group_of_code: Integers, groups: int) -> Integers:
        """Return the number of observations by outcome, group and bin."""
        shape = (len(OUTCOMES), groups, self._bins)
        outcomes, rows = self._labels.outcome_of_code, self._rows
        drawn = (outcomes >= 0) & (group_of_code >= 0)
        if not drawn.any():
            return np.zeros(shape, dtype=np.int64)
        kind_and_group = outcomes * groups + group_of_code
        chosen = np.flatnonzero(drawn[rows.labels])
        cells = kind_and_group[rows.labels[chosen]] * self._bins + rows.bins[chosen]
        return np.bincount(cells, minlength=math.prod(shape)).reshape(shape)

    def _cut(self, cells: SortedCells, labels: Sequence[str], errors: Integers) -> list[RouteStrip]:
        shape = (len(labels), self._bins)
        counts = cells.counts.reshape(shape)
        p50, p90, p99, longest = (
            cells.quantile(share).reshape(shape) for share in (0.5, 0.9, 0.99, 1.0)
        )
        return [
            RouteStrip(
                label,
                counts[number],
                p50[number],
                p90[number],
                p99[number],
                longest[number],
                _occurring(errors[:, number]),
                cells.heat(number * self._bins, self._bins),
                Totals(
                    int(counts[number].sum()),
                    *cells.total_quantiles(number * self._bins, self._bins, _TOTAL_SHARES),
                ),
            )
            for number, label in enumerate(labels)
        ]


def _occurring(errors: Integers) -> Mapping[str, Integers]:
    """Return the rows of the outcomes that occur, by outcome."""
    return {kind: counts for kind, counts in zip(OUTCOMES, errors, strict=True) if counts.any()}
