"""The live view as plain text: one screen, for pipes and logs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from aqltelemetry.views.columns import Row
from aqltelemetry.views.live.player import Progress
from aqltelemetry.views.live.window import Snapshot
from aqltelemetry.views.top import panels
from aqltelemetry.views.top.columns import FLEXIBLE, VIEWS, in_order
from aqltelemetry.views.top.forms import BLOCKS
from aqltelemetry.views.top.layout import GAP, Widths, cell, head
from aqltelemetry.views.top.options import Options, matching

_STALLS = 6
_PLAIN = str.maketrans(BLOCKS + "●■▶‖▲▼…", "._-:=+*#*#>|^v~")


def screen(  # noqa: PLR0913 - by name
    snapshot: Snapshot,
    progress: Progress,
    *,
    directory: str,
    findings: Sequence[Row],
    options: Options,
    width: int,
    is_ascii: bool = False,
) -> str:
    """Return what the screen would show, as lines without colours.

    Args:
        snapshot: The figures.
        progress: Their time.
        directory: The directory, as it is shown.
        findings: The findings, as rows.
        options: The view, the order and the filter. Routes and workers are both shown.
        width: The width of a line, in characters.
        is_ascii: Use only ASCII characters for marks and sparklines.
    """
    findings = panels.with_not_read(findings, progress)
    lines = [
        panels.title(directory, progress, width).plain,
        panels.overview(snapshot.totals, width).plain,
        f" {window_text(snapshot)}",
    ]
    for row in () if options.view == "findings" else findings:
        lines += textwrap.wrap(row["text"], width, initial_indent=" ▲ ", subsequent_indent="   ")
    if snapshot.stalls:
        lines += panels.stalls(snapshot.stalls, _STALLS, width).plain.split("\n")
    shown = ("routes", "workers") if options.view in {"routes", "workers"} else (options.view,)
    rows = {**snapshot._asdict(), "findings": panels.wrapped(findings, width - 14)}
    for view in shown:
        lines += ["", *_table(view, rows[view], options, width)]
    text = "\n".join(line.rstrip() for line in lines)
    return text.translate(_PLAIN) if is_ascii else text


def window_text(snapshot: Snapshot) -> str:
    """Return a line on the time that the figures are of."""
    return panels.span(snapshot.begin_ns, snapshot.end_ns, snapshot.recorded_s)


def _table(view: str, rows: Sequence[Row], options: Options, width: int) -> Iterator[str]:
    rows = matching(view, rows, options.pattern, options.view)
    widths = Widths(VIEWS[view], FLEXIBLE.get(view))
    widths.see(rows)
    places = widths.places(width - 2)
    order = options.orders()[view]
    marks = ["▼" if place.column is order else "" for place in places]
    yield " " + GAP.join(head(place, mark) for place, mark in zip(places, marks, strict=True))
    for row in in_order(rows, order, is_reversed=False):
        yield " " + GAP.join(cell(place, row) for place in places)
