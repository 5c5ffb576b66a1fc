"""How many labels a process may have: segments come and go, but each new label costs room."""

from __future__ import annotations

from typing import TypeAlias

from aqltelemetry.observation import Series

SeriesKey: TypeAlias = str | tuple[str, str] | Series
"""How a hot path names a series: a duration's label, or `(prefix, label)` for a value.

A sampler's series of the reserved prefix `runtime` is named by a `Series`.
"""
MAX_LABELS = 10_000
OTHER_LABELS = "other labels"
"""The label of observations whose own is beyond the limit."""


class LabelLimit:
    """Limits the number of labels of a process; all further ones share one label.

    So labels with an ID in them cost a bounded amount of memory and journal, and their
    observations are still recorded and counted. Threads that bring a new label at the same
    moment may exceed the limit by their number.
    """

    def __init__(self, max_labels: int = MAX_LABELS) -> None:
        self._max_labels = max_labels
        self._admitted: set[tuple[str, str]] = set()

    def admit(self, series: Series) -> Series:
        """Return the series that an observation of `series` is to be recorded under."""
        name = (series.prefix, series.label)
        if name not in self._admitted:
            if len(self._admitted) >= self._max_labels:
                return series._replace(label=OTHER_LABELS)
            self._admitted.add(name)
        return series
