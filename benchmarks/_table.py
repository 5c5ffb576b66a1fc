"""How every benchmark shows its results: as a table, printed, and kept for the report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

KEPT_IN = "AQLTELEMETRY_BENCH_RESULTS"
"""Environment variable: the file to which tables are added, a line of JSON each."""


def show(
    title: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[str | float | None]],
    *,
    drawn: str = "",
    is_curve: bool = False,
) -> None:
    """Print a table; `columns` are names and formats of numbers, the first names the rows.

    None is a cell without a figure. `drawn` is the column that a picture shows, as
    bars or as a curve over the first column's numbers.
    """
    cells = [
        [_text(cell, kind) for cell, kind in zip(row, columns.values(), strict=True)]
        for row in rows
    ]
    widths = [max(len(name), *(len(row[at]) for row in cells)) for at, name in enumerate(columns)]
    print(title)
    for row in (list(columns), *cells):
        first, *rest = (cell for cell in zip(row, widths, strict=True))
        print("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]))
    print()
    keep(
        {
            "title": title,
            "columns": list(columns),
            "cells": cells,
            "drawn": drawn,
            "is_curve": is_curve,
        }
    )


def keep(fact: Mapping[str, object]) -> None:
    """Keep something for the report, if one is made."""
    if KEPT_IN in os.environ:
        with Path(os.environ[KEPT_IN]).open("a") as file:
            file.write(json.dumps(fact) + "\n")


def _text(cell: str | float | None, kind: str) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else format(cell, kind)
