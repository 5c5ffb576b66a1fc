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
    """Lets the first labels of a process be recorded, and has all others share one.

    So a label with an ID in it costs a bounded amount of memory and of journal, and
    its observations are still there, and counted. Threads that come at once with a
    new label each may exceed the limit by their number.
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
