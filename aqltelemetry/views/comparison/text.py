"""Writes a comparison as text for a terminal or a pipe, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aqltelemetry.quantities import counted
from aqltelemetry.views.comparison import words
from aqltelemetry.views.comparison.words import Document
from aqltelemetry.views.layout import shortened

_VALUES_WIDTH = 9


class Line(NamedTuple):
    """A line of text, and what it is: "title", "slower", "faster", "dim", or "" for the rest."""

    text: str
    kind: str = ""


def lines(document: Document, top: int = 0, width: int | None = None) -> Iterator[Line]:
    """Yield the lines of a comparison.

    Args:
        document: The result of `compare`.
        top: The largest number of labels of each part; 0 for all.
        width: To how many characters the names of labels are shortened; None for no limit.
    """
    yield Line(f"A  {words.side(document, 'a')}")
    yield Line(f"B  {words.side(document, 'b')}")
    yield Line("")
    yield Line(words.summary(document), "title")
    changed = [row for row in document["labels"] if row["verdicts"]]
    others = [row for row in document["labels"] if not row["verdicts"]]
    for row in changed[: top or None]:
        yield from _changed(row, width)
    yield from _more(changed, top)
    if others:
        yield Line("")
        yield Line("no certain change", "title")
        shown = others[: top or None]
        room = max(len(row["label"]) for row in shown)
        for row in shown:
            yield _other(row, room if width is None else min(room, max(width - 32, 12)))
        yield from _more(others, top)
    for side, name in (("only_a", "A"), ("only_b", "B")):
        if document[side]:
            yield Line("")
            yield Line(f"only in {name}", "title")
            yield from _only(document[side][: top or None], width)
            yield from _more(document[side], top)
    if document["stalls"]:
        yield Line("")
        yield Line("stalls, not compared for certain changes", "title")
        yield from (Line(f"  {words.stalls(row)}") for row in document["stalls"])
    yield Line("")
    yield from (Line(line, "dim") for line in _wrapped(words.rule(document), width))
    for condition in document["conditions"]:
        kind = "slower" if condition["holds"] else ""
        yield Line(words.condition(condition), kind)


def _changed(row: Document, width: int | None) -> Iterator[Line]:
    verdict = words.verdicts(row)
    kind = "faster" if row["verdicts"] in (["faster"], ["fewer errors"]) else "slower"
    label = _fitting(row["label"], width and width - len(verdict) - 2)
    yield Line("")
    yield Line(f"{label}  {verdict}", kind)
    yield Line(f"  {row['count_a']:,} in A, {row['count_b']:,} in B", "dim")
    for measure, found in words.shown(row).items():
        mark = "*" if found["is_certain"] else " "
        before, after = (words.value(measure, found[side]) for side in "ab")
        values = f"{before:>{_VALUES_WIDTH}} > {after:>{_VALUES_WIDTH}} {words.unit(measure):<2}"
        change = f"{words.change(measure, found):>9}"
        text = f"{mark} {measure:<6} {values} {change}  {words.interval(measure, found)}"
        yield Line(text, "" if found["is_certain"] else "dim")


def _other(row: Document, room: int) -> Line:
    measure = "p50" if row["measures"]["p95"]["low"] is None else "p95"
    found = row["measures"][measure]
    label = shortened(row["label"], room)
    about = f"{measure} {words.change(measure, found)} ({words.interval(measure, found)})"
    return Line(f"  {label:<{room}} {about}")


def _only(rows: Sequence[Document], width: int | None) -> Iterator[Line]:
    for row in rows:
        about = f"{counted(row['count'], 'duration')}, p50 {words.value('p50', row['p50_s'])} ms"
        label = _fitting(row["label"], width and width - len(about) - 4)
        yield Line(f"  {label}  {about}")


def _more(rows: Sequence[Document], top: int) -> Iterator[Line]:
    if top and len(rows) > top:
        yield Line(f"  and {counted(len(rows) - top, 'more label')}: --top 0", "dim")


def _fitting(label: str, width: int | None) -> str:
    return label if width is None else shortened(label, max(width, 12))


def _wrapped(text: str, width: int | None) -> Iterator[str]:
    line = ""
    for word in text.split():
        if width is not None and line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def markdown(document: Document, top: int = 0) -> str:
    """Return a comparison as Markdown, such as for a comment on a pull request."""
    return "\n".join(_markdown(document, top)) + "\n"


def _markdown(document: Document, top: int) -> Iterator[str]:
    yield f"**{words.summary(document)}**"
    yield ""
    yield from (f"- {name.upper()}: {words.side(document, name)}" for name in "ab")
    rows = document["labels"][: top or None]
    if rows:
        yield ""
        yield "| label | | A | B | change | interval |"
        yield "|---|---|--:|--:|--:|---|"
        for row in rows:
            yield from _markdown_row(row)
    for side, name in (("only_a", "A"), ("only_b", "B")):
        if document[side]:
            labels = ", ".join(_code(row["label"]) for row in document[side][: top or None])
            yield from ("", f"Only in {name}: {labels}")
    if document["stalls"]:
        yield ""
        yield from (f"- Stalls: {words.stalls(row)}" for row in document["stalls"])
    yield from ("", words.rule(document).replace("*", "\\*"))
    if document["conditions"]:
        yield ""
        yield from (f"- {words.condition(each)}" for each in document["conditions"])


def _markdown_row(row: Document) -> Iterator[str]:
    """Yield a line for each certain change, or one for the 95th percentile."""
    certain = {name: each for name, each in row["measures"].items() if each["is_certain"]}
    for measure, found in (certain or {"p95": row["measures"]["p95"]}).items():
        before, after = (words.value(measure, found[side]) for side in "ab")
        mark = "**" if certain else ""
        yield (
            f"| {_code(row['label'])} | {measure} | {before} {words.unit(measure)} "
            f"| {after} {words.unit(measure)} | {mark}{words.change(measure, found)}{mark} "
            f"| {words.interval(measure, found)} |"
        )


def _code(label: str) -> str:
    text = label.replace("`", "'").replace("|", "\\|")
    return f"`{text}`"
