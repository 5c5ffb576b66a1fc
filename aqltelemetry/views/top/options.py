"""What the live view shows at first, and how often it is drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aqltelemetry.views.columns import Column, Row
from aqltelemetry.views.top.columns import DEFAULT_ORDER, VIEWS, find_column


@dataclass(frozen=True, slots=True)
class Options:
    """What the live view shows at first.

    Attributes:
        view: `routes`, `workers`, `slowest` or `findings`.
        window: `10s`, `1m`, `5m` or `all`.
        sort: The head or key of a column; None for the usual order. Raises OptionError in
            `orders` if there is no such column.
        pattern: Only labels that contain this text, or match it if it contains * or ?.
        interval_s: The time between two drawings, in seconds.
    """

    view: str = "routes"
    window: str = "1m"
    sort: str | None = None
    pattern: str = ""
    interval_s: float = 1.0

    def orders(self) -> dict[str, Column | None]:
        """Return the column by which each view is sorted; None for the order of its rows."""
        wanted = find_column(self.sort) if self.sort else {}
        usual = {
            view: next((c for c in columns if c.key == DEFAULT_ORDER[view]), None)
            for view, columns in VIEWS.items()
        }
        return {**usual, **wanted}


def matching(view: str, rows: Sequence[Row], pattern: str, chosen_view: str) -> list[Any]:
    """Return the rows whose label, process or text matches a pattern, regardless of case.

    A pattern without * and ? may be any part. Workers are filtered only if they are the view
    that was chosen, since a pattern is usually one of labels.
    """
    if not pattern or (view == "workers" and chosen_view != "workers"):
        return list(rows)
    wanted = pattern.casefold()
    if not set("*?") & set(wanted):
        wanted = f"*{wanted.replace('[', '[[]')}*"
    else:
        wanted = wanted.replace("[", "[[]")
    return [row for row in rows if fnmatchcase(_text(row), wanted)]


def _text(row: Row) -> str:
    found = row.get("label") or row.get("text") or f"{row.get('pid')} {row.get('state')}"
    return str(found).casefold()
