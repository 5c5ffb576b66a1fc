"""Writes a report's document as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aqltelemetry.quantities import counted
from aqltelemetry.views.columns import TABLES, TITLES, Row, headline, printable, with_content

_BACKTICKS = re.compile("`+")
_SPECIAL = re.compile(r"[\\`*_<>\[\]|]")


def to_csv(document: Mapping[str, Any], table: str) -> str:
    """Return a table as CSV: a header of the document's fields, and a line for each row.

    Times are seconds, as in the document. What is not known is empty.
    """
    output = io.StringIO()
    writer = csv.DictWriter(output, [each.key for each in TABLES[table]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _field(value) for key, value in row.items()} for row in document[table])
    return output.getvalue()


def _field(value: Any) -> Any:
    """Return a value as a field of CSV: the labels of a mapping."""
    return "; ".join(value) if isinstance(value, Mapping) else value


def to_markdown(document: Mapping[str, Any], tables: Sequence[str]) -> str:
    """Return a document as Markdown, with these tables in this order."""
    return "\n".join(_markdown(document, tables)) + "\n"


def _markdown(document: Mapping[str, Any], tables: Sequence[str]) -> Iterator[str]:
    yield f"# {_escaped(headline(document))}"
    if document["findings"]:
        yield ""
        yield from (f"- {_escaped(printable(finding['text']))}" for finding in document["findings"])
    for table in tables:
        if document[table]:
            yield from _table(table, document[table], document["left_out"][table])
    yield ""
    yield f"Dropped: {counted(document['dropped']['count'], 'observation')}."


def _table(table: str, rows: Sequence[Row], left_out: int) -> Iterator[str]:
    columns = with_content(TABLES[table], rows)
    yield from ("", f"## {TITLES[table].capitalize()}", "")
    yield _line(each.head for each in columns)
    yield _line("--:" if each.is_number else "---" for each in columns)
    for row in rows:
        yield _line(
            _code(each.text(row)) if each.key == "label" else each.text(row) for each in columns
        )
    if left_out:
        yield from ("", f"And {left_out:,} more.")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """Return a text as code, within a cell of a table."""
    fence = "`" * (1 + max(map(len, _BACKTICKS.findall(text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def _escaped(text: str) -> str:
    """Return a text without characters that have a meaning in Markdown."""
    return _SPECIAL.sub(r"\\\g<0>", text)
