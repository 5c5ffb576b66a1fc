"""A table whose lines are drawn again only if they have changed.

textual's own DataTable takes eight times the processor time for rows that change each second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, MouseMove, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from aqltelemetry.views.columns import Column, Row
from aqltelemetry.views.top.columns import FLEXIBLE, KEYS, VIEWS, in_order, style_of
from aqltelemetry.views.top.layout import GAP, Place, Widths, cell, head

_STYLES = ("head", "sorted", "plain", "label", "dim", "good", "warn", "bad", "accent", "cursor")


class Table(ScrollView, can_focus=True):
    """The rows of a view, sorted, with a cursor; a click on a head sorts by its column.

    Args:
        view: The name of the view: `routes`, `workers`, `slowest` or `findings`.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"table--{name}" for name in _STYLES}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000)", "First", show=False),
        Binding("end,G", "move(1000000)", "Last", show=False),
    ]

    class HeadClicked(Message):
        """The head of a column was clicked."""

        def __init__(self, view: str, column: Column) -> None:
            super().__init__()
            self.view = view
            self.column = column

    def __init__(self, view: str) -> None:
        super().__init__(id=view)
        self.view = view
        self.places: list[Place] = []
        self.rows: list[Row] = []
        self.sorted_by: Column | None = None
        self.is_reversed = False
        self._all: Sequence[Row] = ()
        self._columns = VIEWS[view]
        self._widths = Widths(self._columns, FLEXIBLE.get(view))
        self._lines: list[tuple[tuple[str, str], ...]] = []
        self.cursor = 0
        self._chosen: tuple[object, ...] | None = None
        self._styles: dict[str, Style] = {}

    def show(self, rows: Sequence[Row]) -> None:
        """Show rows; only those that have changed are drawn again."""
        self._all = rows
        if self._widths.see(rows):
            self.places = self._widths.places(self._inner_width)
            self._lines = []
        self.rows = in_order(rows, self.sorted_by, is_reversed=self.is_reversed)
        self._follow_cursor()
        before, self._lines = self._lines, [self._line(row) for row in self.rows]
        if len(before) != len(self._lines):
            self.virtual_size = Size(self.size.width, len(self._lines) + 1)
            self.refresh()
            return
        for number, (old, new) in enumerate(zip(before, self._lines, strict=True)):
            if old != new:
                self._refresh_row(number)

    def sort_by(self, column: Column | None, *, is_reversed: bool = False) -> None:
        """Sort by a column; None for the order of the rows themselves."""
        self.sorted_by, self.is_reversed = column, is_reversed
        self.show(self._all)
        self.refresh()

    @property
    def _inner_width(self) -> int:
        return max(self.scrollable_content_region.width or self.size.width, 1) - 2

    def _line(self, row: Row) -> tuple[tuple[str, str], ...]:
        """Return the texts of a row with the names of their styles."""
        return tuple(
            (cell(place, row), self._style_name(place.column, row)) for place in self.places
        )

    def _style_name(self, column: Column, row: Row) -> str:
        name = style_of(column, row)
        return "label" if name == "plain" and column.key in {"label", "pid"} else name

    def _follow_cursor(self) -> None:
        """Keep the cursor on its row, wherever that is now."""
        if self._chosen is not None:
            for number, row in enumerate(self.rows):
                if self._key(row) == self._chosen:
                    self._set_cursor(number)
                    return
        self._set_cursor(min(self.cursor, max(len(self.rows) - 1, 0)))

    def _key(self, row: Row) -> tuple[object, ...]:
        return tuple(row.get(name) for name in KEYS.get(self.view, ("text",)))

    def _set_cursor(self, number: int) -> None:
        if number != self.cursor:
            before, self.cursor = self.cursor, number
            self._refresh_row(before)
            self._refresh_row(number)

    def _refresh_row(self, number: int) -> None:
        self.refresh(Region(0, number + 1 - round(self.scroll_y), self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """Draw a line of the visible part: the heads, then rows."""
        width = self.size.width
        if y == 0:
            return self._head_strip(width)
        number = y - 1 + round(self.scroll_y)
        if number >= len(self._lines):
            return Strip.blank(width, self._style("plain"))
        is_cursor = number == self.cursor and self.has_focus
        back = Style(bgcolor=self._style("cursor").bgcolor) if is_cursor else Style()
        segments = [Segment(" ", self._style("plain") + back)]
        for text, name in self._lines[number]:
            style = self._style(name) + back
            segments += [Segment(text, style), Segment(GAP, style)]
        return Strip(segments).adjust_cell_length(width, self._style("plain") + back)

    def _head_strip(self, width: int) -> Strip:
        style = self._style("head")
        segments = [Segment(" ", style)]
        for place in self.places:
            is_sorted = place.column is self.sorted_by
            mark = ("▲" if self.is_reversed else "▼") if is_sorted else ""
            shown = self._style("sorted") if is_sorted else style
            segments += [Segment(head(place, mark), shown), Segment(GAP, style)]
        return Strip(segments).adjust_cell_length(width, style)

    def _style(self, name: str) -> Style:
        if name not in self._styles:
            self._styles[name] = self.get_component_rich_style(f"table--{name}")
        return self._styles[name]

    def notify_style_update(self) -> None:
        """Forget the styles: the theme or the focus has changed."""
        super().notify_style_update()
        self._styles = {}

    def on_resize(self, event: Resize) -> None:
        """Choose the columns that fit."""
        del event
        self.places = self._widths.places(self._inner_width)
        self._lines = []
        self.show(self._all)

    def on_focus(self) -> None:
        """Show the cursor."""
        self._refresh_row(self.cursor)

    def on_blur(self) -> None:
        """Hide the cursor."""
        self._refresh_row(self.cursor)

    def on_click(self, event: Click) -> None:
        """Sort by the column whose head was clicked, or put the cursor on the row."""
        self.focus()
        if event.y > 0:
            self._go(event.y - 1 + round(self.scroll_y))
        elif (column := self._column_at(event.x)) is not None:
            self.post_message(self.HeadClicked(self.view, column))

    def on_mouse_move(self, event: MouseMove) -> None:
        """Explain the column under the mouse."""
        column = self._column_at(event.x) if event.y == 0 else None
        text = f"{column.head}: {column.meaning}" if column is not None else None
        if self.tooltip != text:
            self.tooltip = text

    def _column_at(self, x: int) -> Column | None:
        end = 1
        for place in self.places:
            end += place.width + len(GAP)
            if x < end:
                return place.column
        return None

    def action_move(self, rows: int) -> None:
        """Move the cursor by some rows."""
        self._go(self.cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by some pages."""
        self._go(self.cursor + pages * max(self.size.height - 2, 1))

    def _go(self, number: int) -> None:
        if self.rows:
            number = max(0, min(number, len(self.rows) - 1))
            self._chosen = self._key(self.rows[number])
            self._set_cursor(number)
            self.scroll_to_region(Region(0, number, 1, 2), animate=False)
