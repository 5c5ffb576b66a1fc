"""Puts the result of a command between two markers of a document."""

from __future__ import annotations

from collections.abc import Sequence
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


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
