"""Puts the result of a command between two markers of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

RELIABILITY = Path(__file__).parent.parent / "docs" / "reliability.md"


def put(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name: ... -->` and `<!-- end of name -->`.

    Raises ValueError where there is no such pair.
    """
    lines = path.read_text().splitlines(keepends=True)
    at = [n for n, line in enumerate(lines) if line.startswith(f"<!-- {name}: ")]
    end = [n for n, line in enumerate(lines) if line == f"<!-- end of {name} -->\n"]
    if len(at) != 1 or len(end) != 1 or at[0] > end[0]:
        raise ValueError(f"{path}: needs one pair of markers for {name!r}")
    made = [f"\n{text.strip()}\n\n"]
    path.write_text("".join([*lines[: at[0] + 1], *made, *lines[end[0] :]]))


def between(path: Path, name: str) -> str:
    """Return what stands between the markers."""
    text = path.read_text().partition(f"<!-- {name}: ")[2].partition("-->\n")[2]
    return text.partition(f"<!-- end of {name} -->")[0]


def merged(before: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    """Return a table with columns by name, each of cells by the name of their row.

    Columns of the table that is in the text `before` stay, if it has the same rows.
    """
    lines = [line[2:-2].split(" | ") for line in before.splitlines() if line.startswith("| ")]
    rows = [*next(iter(columns.values()))]
    kept: dict[str, Mapping[str, str]] = {}
    if [line[0] for line in lines[2:]] == rows:
        for at, name in enumerate(lines[0][1:], 1):
            kept[name] = {line[0]: line[at] for line in lines[2:]}
    kept |= columns
    return table(["", *kept], [[row, *(cells[row] for cells in kept.values())] for row in rows])


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
