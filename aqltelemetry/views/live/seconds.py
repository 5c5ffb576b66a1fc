"""Sums per row and second of the last minutes, as a table that is used as a ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from aqltelemetry.views.live.buckets import Floats, Integers

MAX_SPAN_S = 300
"""The longest span, in seconds."""
AHEAD_S = 2
"""How many seconds are kept that begin after the end of the span: the present one and the next."""
KEPT_S = MAX_SPAN_S + AHEAD_S
"""How many seconds are kept."""


class Span:
    """The seconds from `begin_s` to before `end_s`, since the epoch; at most `MAX_SPAN_S`."""

    def __init__(self, begin_s: int, end_s: int) -> None:
        self.begin_s = max(begin_s, end_s - MAX_SPAN_S)
        self.end_s = end_s

    def __len__(self) -> int:
        return max(self.end_s - self.begin_s, 0)

    def __contains__(self, second: int) -> bool:
        return self.begin_s <= second < self.end_s

    def columns(self) -> Integers:
        """Return the columns of these seconds in a ring, in order."""
        return np.arange(self.begin_s, self.begin_s + len(self)) % KEPT_S


class Ring:
    """Numbers per row and second, of the last `KEPT_S` seconds; `empty` where there are none."""

    def __init__(self, dtype: Any = np.int64, empty: float = 0) -> None:
        self._empty = empty
        self._values = np.full((0, KEPT_S), empty, dtype)

    def reserve(self, rows: int) -> None:
        """Make room for a number of rows."""
        missing = rows - len(self._values)
        if missing > 0:
            missing = max(missing, len(self._values) // 2)
            more = np.full((missing, KEPT_S), self._empty, self._values.dtype)
            self._values = np.concatenate([self._values, more])

    def forget(self, columns: Integers) -> None:
        """Make columns empty, for seconds to come."""
        self._values[:, columns] = self._empty

    def add(self, second: int, numbers: Floats | Integers) -> None:
        """Add numbers to a second: one for each of the first rows."""
        self._values[: len(numbers), second % KEPT_S] += numbers

    def raise_to(self, second: int, rows: Integers, numbers: Floats) -> None:
        """Raise the numbers of some rows to at least `numbers`; a row may occur several times."""
        np.fmax.at(self._values[:, second % KEPT_S], rows, numbers)

    def put(self, second: int, rows: Integers, numbers: Floats) -> None:
        """Set the numbers of some rows; the last one of a row counts."""
        self._values[rows, second % KEPT_S] = numbers

    def over(self, span: Span) -> npt.NDArray[Any]:
        """Return the numbers of all rows in a span, a column for each second."""
        return self._values[:, span.columns()]


def binned(
    numbers: npt.NDArray[Any],
    bins: int,
    merge: Callable[..., npt.NDArray[Any]] = np.add.reduceat,
) -> Floats:
    """Merge the columns of a table into at most `bins` columns of almost equal width.

    With fewer columns than bins, each is one.
    """
    width = numbers.shape[1]
    if width <= bins:
        return numbers.astype(float)
    starts = np.arange(bins) * width // bins
    merged: Floats = merge(numbers, starts, axis=1).astype(float)
    return merged
