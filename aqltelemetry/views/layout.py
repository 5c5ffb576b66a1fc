"""Fits a table into the width of a terminal: which columns, how wide, labels shortened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len

from aqltelemetry.views.columns import Column, Row, with_content

GAP = 2
"""Spaces between two columns."""
_LABEL = "label"
_LABEL_SHARE = 0.35  # of the width, which a long label keeps when columns are left out for it
_MIN_LABEL = 12
_MIN_COLUMNS = 2


class Layout(NamedTuple):
    """The columns of a table that have room."""

    columns: Sequence[Column]
    widths: Mapping[str, int]
    """By key, in cells of a terminal."""
    left_out: Sequence[Column]
    """Columns that have content, but no room."""


def fit(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> Layout:
    """Return the columns of these rows that fit into a width; None for no limit.

    Numbers are never cut: columns of high rank are left out, and labels are shortened.
    """
    chosen = with_content(columns, rows)
    natural = {column.key: _natural(column, rows) for column in chosen}
    if width is None:
        return Layout(chosen, natural, ())
    needed = dict(natural)
    if _LABEL in needed:
        enough = max(_MIN_LABEL, int(width * _LABEL_SHARE))
        needed[_LABEL] = min(needed[_LABEL], enough)
    by_rank = sorted(chosen, key=lambda column: column.rank)
    while len(by_rank) > _MIN_COLUMNS and _total(by_rank, needed) > width:
        by_rank.pop()
    kept = [column for column in chosen if column in by_rank]
    widths = {column.key: needed[column.key] for column in kept}
    if _LABEL in widths:
        free = width - _total(kept, needed)
        widths[_LABEL] = min(natural[_LABEL], max(widths[_LABEL] + free, _MIN_LABEL))
    return Layout(kept, widths, [column for column in chosen if column not in by_rank])


def shortened(text: str, width: int, mark: str = "…") -> str:
    """Return a text of at most `width` cells: its start, the mark, and its end."""
    if cell_len(text) <= width:
        return text
    room = width - cell_len(mark)
    end = _within(text[::-1], room // 2)[::-1]
    return _within(text, room - cell_len(end)) + mark + end


def _within(text: str, width: int) -> str:
    """Return the start of a text that is at most `width` cells wide."""
    used = 0
    for at, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return text[:at]
    return text


def _natural(column: Column, rows: Sequence[Row]) -> int:
    return max(cell_len(column.head), *(cell_len(column.text(row)) for row in rows), 0)


def _total(columns: Sequence[Column], widths: Mapping[str, int]) -> int:
    return sum(widths[column.key] for column in columns) + GAP * (len(columns) - 1)
