"""The figures of labels of durations: of routes, blocks and functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.outcomes import OUTCOME_COLUMNS, OUTCOMES, split, total_of
from aqltelemetry.views.live.batch import Batch
from aqltelemetry.views.live.buckets import Floats, Integers
from aqltelemetry.views.live.groups import Figures, Groups, Pieces
from aqltelemetry.views.live.seconds import Ring, Span


class Roles(NamedTuple):
    """What n observations are, by their labels.

    Attributes:
        rows: The row of each, of its base if it is an outcome: n integers.
        outcomes: Its outcome as an index into `OUTCOMES`, or -1: n integers.
        are_parts: Whether it is a part of another one: an outcome or a time to the first byte.
    """

    rows: Integers
    outcomes: Integers
    are_parts: npt.NDArray[np.bool_]


class Routes:
    """The figures of each label; outcomes, such as `... 5xx`, are counted under their base."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.durations = Groups()
        self._rows: dict[str, int] = {}
        self._roles: dict[str, tuple[int, int, bool]] = {}
        self._outcomes = [Ring() for _ in OUTCOMES]
        self._outcomes_ever = np.zeros((len(OUTCOMES), 0), np.int64)

    def roles(self, batch: Batch) -> Roles:
        """Return the roles of observations by their labels."""
        known_labels = self._roles.keys() | set(batch.labels)
        for label in batch.labels:
            if label not in self._roles:
                base, word = split(label, known_labels)
                outcome = OUTCOMES.index(word) if word else -1
                is_part = bool(word or total_of(label, known_labels))
                self._roles[label] = (self._row(base), outcome, is_part)
        roles = np.array([self._roles[label] for label in batch.labels], np.int64).reshape(-1, 3)
        rows, outcomes, are_parts = roles[batch.label_codes].T
        return Roles(rows, outcomes, are_parts.astype(bool))

    def _row(self, label: str) -> int:
        row = self._rows.setdefault(label, len(self.labels))
        if row == len(self.labels):
            self.labels.append(label)
            self.durations.reserve(row + 1)
            for ring in self._outcomes:
                ring.reserve(row + 1)
            self._outcomes_ever = np.pad(self._outcomes_ever, ((0, 0), (0, 1)))
        return row

    def add_outcomes(self, pieces: Pieces, rows: Integers, outcomes: Integers) -> None:
        """Add outcomes, sorted as `pieces` describes."""
        np.add.at(self._outcomes_ever, (outcomes, rows), 1)
        for second, piece in pieces.kept:
            for outcome, ring in enumerate(self._outcomes):
                ring.add(second, np.bincount(rows[piece][outcomes[piece] == outcome]))

    def forget(self, columns: Integers, before_s: int) -> None:
        """Forget the seconds before `before_s`; see `Groups.forget`."""
        self.durations.forget(columns, before_s)
        for ring in self._outcomes:
            ring.forget(columns)

    def table(self, span: Span | None, end_s: int, recorded_s: float, bins: int) -> list[Any]:
        """Return a row for each label that has durations in a span, or ever, as a dict."""
        figures = self.durations.figures(span)
        outcomes = self._outcome_counts(span)
        trends = self.durations.trends(span, end_s, bins)
        return [
            {
                "label": self.labels[row],
                **numbers(figures, row, recorded_s),
                **{
                    OUTCOME_COLUMNS[word]: int(outcomes[at, row])
                    for at, word in enumerate(OUTCOMES)
                },
                "trend": trends[row].tolist(),
            }
            for row in np.flatnonzero(figures.counts).tolist()
        ]

    def _outcome_counts(self, span: Span | None) -> Integers:
        if span is None:
            return self._outcomes_ever
        return np.array(
            [ring.over(span)[: len(self.labels)].sum(axis=1) for ring in self._outcomes]
        )


def numbers(figures: Figures, row: int, recorded_s: float) -> Mapping[str, Any]:
    """Return the figures of a row, by the keys of a summary."""
    count = int(figures.counts[row])
    return {
        "count": count,
        "per_s": count / recorded_s,
        "p50_s": known(figures.p50, row),
        "p99_s": known(figures.p99, row),
        "max_s": known(figures.maxima, row),
        "sum_s": float(figures.sums[row]),
    }


def known(values: Floats, row: int) -> float | None:
    """Return the number of a row as a float, or None for NaN."""
    value = float(values[row])
    return None if np.isnan(value) else value
