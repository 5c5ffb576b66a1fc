"""The help: the columns of a view, with their definitions, and the keys."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table as Grid
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from aqltelemetry.views.top.columns import VIEWS

KEYS = (
    ("1 2 3 4", "show routes, workers, the slowest durations, findings"),
    ("w, W", "choose the next or the previous window: 10 s, 1 min, 5 min, all"),
    ("s, S", "sort by the next or the previous column; so does a click on its head"),
    ("r", "reverse the order"),
    ("/", "filter: a part of the label, or a pattern with * and ?; Escape ends it"),
    ("space", "pause the display; recording goes on"),
    ("← →", "in a replay: 10 s back or ahead; with Shift, 1 min"),
    ("↑ ↓, wheel", "move through the rows"),
    ("?", "this help"),
    ("q", "quit"),
)


class Help(ModalScreen[None]):
    """Explains a view; any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close"),
    ]

    def __init__(self, view: str) -> None:
        super().__init__()
        self._view = view

    def compose(self) -> ComposeResult:
        """Compose the help."""
        scroll = VerticalScroll(
            Static(_grid([(each.head, each.meaning) for each in VIEWS[self._view] if each.head])),
            Static(Text("\nkeys\n", "bold")),
            Static(_grid(KEYS)),
        )
        scroll.border_title = f"{self._view}: columns"
        scroll.border_subtitle = "Escape closes"
        yield scroll


def _grid(rows: object) -> Grid:
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold cyan", no_wrap=True, max_width=22)
    grid.add_column()
    for name, meaning in rows:  # type: ignore[attr-defined]
        grid.add_row(name, meaning)
    return grid
