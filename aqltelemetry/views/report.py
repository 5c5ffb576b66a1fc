"""Prints a report's document on a terminal or into a pipe; it formats numbers, computes none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aqltelemetry.quantities import counted
from aqltelemetry.views.columns import TABLES, TITLES, Column, Row, headline, printable
from aqltelemetry.views.layout import GAP, Layout, fit, shortened
from aqltelemetry.views.stalls.strip_text import strip

Document = Mapping[str, Any]
_NOUNS = {
    "durations": "label",
    "slowest": "duration",
    "stalls": "line",
    "workers": "worker",
    "values": "label",
}
_ALARMING = ("errors_5xx", "failures", "dropped")
_STATES = {"killed": "bold red", "running": "green"}
_SEVERITIES = {"error": "bold red", "warning": "yellow"}


def render(
    document: Document, console: Console, tables: Iterable[str] = tuple(TABLES), *, is_plain: bool
) -> None:
    """Print a document.

    Args:
        document: The result of `views.document.document`.
        console: Where to print.
        tables: The tables to print. If they are not all, nothing else is printed.
        is_plain: Print every column, whatever the console's width, and no lines below the
            heads: for pipes and files.
    """
    printer = _Printer(console, is_plain=is_plain)
    if set(tables) == set(TABLES):
        printer.all(document)
    else:
        printer.tables(document, tables)
        printer.columns_left_out()


class _Printer:
    """Prints the parts of a document one after the other."""

    def __init__(self, console: Console, *, is_plain: bool) -> None:
        self._console = console
        self._width = None if is_plain else console.width
        is_unicode = console.encoding.startswith("utf")
        self._mark, self._rule, self._free = ("…", "─", "·") if is_unicode else ("...", "-", ".")
        self._left_out: list[str] = []
        self._has_begun = False

    def all(self, document: Document) -> None:
        """Print all parts."""
        self._head(document)
        self._findings(document["findings"])
        self._strip(document["blocked"])
        self.tables(document, TABLES)
        self._drops(document["dropped"])
        self.columns_left_out()

    def tables(self, document: Document, tables: Iterable[str]) -> None:
        """Print some tables."""
        for table in tables:
            if document[table]:
                self._table(table, document[table], document["left_out"][table])

    def columns_left_out(self) -> None:
        """Print which columns of the tables have no room."""
        if self._left_out:
            text = f"no room for {'; '.join(self._left_out)}"
            self._console.print(Text(text, style="dim"))

    def _head(self, document: Document) -> None:
        self._line(Text(headline(document), style="bold"))
        self._line(Text())

    def _findings(self, findings: Sequence[Document]) -> None:
        if not findings:
            self._line(Text("findings: none"))
            return
        self._line(Text("findings", style="bold"))
        for finding in findings:
            mark = Text("!", style=_SEVERITIES.get(finding["severity"], ""))
            if self._width is None:
                self._line(Text.assemble(mark, " ", printable(finding["text"])))
                continue
            grid = Table.grid(padding=(0, 1, 0, 0))
            grid.add_column()
            grid.add_column(overflow="fold")
            grid.add_row(mark, Text(printable(finding["text"])))
            self._console.print(grid)

    def _strip(self, blocked: Document | None) -> None:
        if blocked is not None:
            self._line(Text())
            self._line(Text("what blocked event loops, over time", style="bold"))
            for line in strip(blocked, self._width, self._free):
                self._line(line)

    def _table(self, table: str, rows: Sequence[Row], left_out: int) -> None:
        layout = fit(TABLES[table], rows, self._width)
        if self._has_begun:
            self._line(Text())
        self._line(Text(TITLES[table], style="bold"))
        self._line(self._row(layout, [Text(each.head, style="dim") for each in layout.columns]))
        if self._width is not None:
            length = sum(layout.widths.values()) + GAP * (len(layout.columns) - 1)
            self._line(Text(self._rule * length, style="dim"))
        for row in rows:
            self._line(
                self._row(layout, [self._cell(layout, each, row) for each in layout.columns])
            )
        if left_out:
            more = counted(left_out, f"more {_NOUNS[table]}")
            self._line(Text(f"and {more}: --top 0", style="italic"))
        if layout.left_out:
            self._left_out.append(f"{table}: {', '.join(each.head for each in layout.left_out)}")

    def _cell(self, layout: Layout, column: Column, row: Row) -> Text:
        value = row[column.key]
        style = _STATES.get(str(value), "") if column.key == "state" else ""
        if column.key in _ALARMING and value:
            style = "red"
        return Text(shortened(column.text(row), layout.widths[column.key], self._mark), style=style)

    @staticmethod
    def _row(layout: Layout, cells: Sequence[Text]) -> Text:
        line = Text()
        for at, (column, cell) in enumerate(zip(layout.columns, cells, strict=True)):
            space = " " * (layout.widths[column.key] - cell_len(cell.plain))
            line.append(" " * GAP if at else "")
            line.append_text(Text(space) + cell if column.is_number else cell + Text(space))
        line.rstrip()
        return line

    def _drops(self, dropped: Document) -> None:
        text = f"dropped: {counted(dropped['count'], 'observation')}"
        if dropped["count"]:
            reasons = (f"{reason} {count:,}" for reason, count in dropped["reasons"].items())
            text += f" ({', '.join(reasons)})"
        self._line(Text())
        self._line(Text(text, style="bold red" if dropped["count"] else ""))

    def _line(self, text: Text) -> None:
        """Print a line, which is never wrapped."""
        self._console.print(text, soft_wrap=True)
        self._has_begun = True
