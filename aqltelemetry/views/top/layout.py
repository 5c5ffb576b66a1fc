"""Chooses the columns for which there is room, and makes the texts of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aqltelemetry.views.columns import Column, Row
from aqltelemetry.views.live.trend import resampled
from aqltelemetry.views.top.columns import TREND
from aqltelemetry.views.top.forms import cut, sparkline

_GAP = 2
_MIN_FLEXIBLE = 16
_FLEXIBLE_SHARE = 0.4
_MIN_TREND, _MAX_TREND = 10, 60
_MAX_ALWAYS = 3  # columns of this rank and below are shown even if nothing is known
_UNKNOWN = "-"


class Place(NamedTuple):
    """A column and the width that it has."""

    column: Column
    width: int


class Widths:
    """The widths that columns need: that of their widest text so far, so that none jumps."""

    def __init__(self, columns: Sequence[Column], flexible: str | None) -> None:
        self._columns = columns
        self._flexible = flexible
        # Room for the mark of the order.
        self._widths = {each.key: len(each.head) + 1 for each in columns}
        self._shown = {each.key for each in columns if each.rank <= _MAX_ALWAYS} | {TREND}
        self._shown -= {each.key for each in columns if each.hides_zeros}

    def see(self, rows: Sequence[Row]) -> bool:
        """Note the texts of rows; return whether a width has changed."""
        before = (dict(self._widths), set(self._shown))
        for column in self._columns:
            if column.key == TREND:
                continue
            longest = max((len(text_of(column, row)) for row in rows), default=0)
            self._widths[column.key] = max(self._widths[column.key], longest)
            values = [row.get(column.key) for row in rows]
            if any(values) or (not column.hides_zeros and any(each is not None for each in values)):
                self._shown.add(column.key)
        return before != (self._widths, self._shown)

    def places(self, width: int) -> list[Place]:
        """Return the columns that fit, in order, those of the lowest rank first."""
        chosen: dict[str, int] = {}
        left = width
        for column in sorted(self._columns, key=lambda each: each.rank):
            if column.key in self._shown:
                least = self._least(column, width)
                if least + _GAP <= left or not chosen:
                    chosen[column.key] = least
                    left -= least + _GAP
        left += _GAP
        for key, most in self._growing():
            if key not in chosen:
                continue
            more = max(min(left, most - chosen[key]), 0)
            chosen[key] += more
            left -= more
        return [Place(c, chosen[c.key]) for c in self._columns if c.key in chosen]

    def _least(self, column: Column, all_width: int) -> int:
        if column.key == TREND:
            return _MIN_TREND
        width = self._widths[column.key]
        share = max(_MIN_FLEXIBLE, int(all_width * _FLEXIBLE_SHARE))
        return min(width, share) if column.key == self._flexible else width

    def _growing(self) -> list[tuple[str, int]]:
        """Return the columns that get the width that is left, and the most that each needs."""
        trend = (TREND, _MAX_TREND)
        return (
            [trend]
            if self._flexible is None
            else [(self._flexible, self._widths[self._flexible]), trend]
        )


def text_of(column: Column, row: Row) -> str:
    """Return a row's value as a text; `-` where nothing is known."""
    value = row.get(column.key, "" if column.key == "severity" else None)
    return _UNKNOWN if value is None else column.form(value)


def cell(place: Place, row: Row) -> str:
    """Return a row's text in a column, padded to its width."""
    column, width = place
    if column.key == TREND:
        return sparkline(resampled(row.get(TREND) or (), width), width)
    text = cut(text_of(column, row), width)
    return text.rjust(width) if column.is_number and column.key != "pid" else text.ljust(width)


def head(place: Place, mark: str) -> str:
    """Return a column's head, padded to its width; `mark` shows that rows are sorted by it."""
    column, width = place
    title = column.head
    if column.key == TREND and len(title) > width:
        title = "per s"
    text = cut(title, width - len(mark)) + mark
    return text.rjust(width) if column.is_number and column.key != "pid" else text.ljust(width)


GAP = " " * _GAP
"""What is between two columns."""
