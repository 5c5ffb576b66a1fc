"""The lines above the tables: what is recorded in all, the views and windows, the findings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.text import Text
from textual.widgets import Static

from aqltelemetry.quantities import counted
from aqltelemetry.views.columns import Row, code_line, printable
from aqltelemetry.views.findings.wording import duration
from aqltelemetry.views.live.player import ENDED, LIVE, Progress
from aqltelemetry.views.live.totals import Totals
from aqltelemetry.views.live.trend import resampled
from aqltelemetry.views.live.window import WINDOWS
from aqltelemetry.views.stalls.strip_text import letter
from aqltelemetry.views.stalls.styles import styles
from aqltelemetry.views.top.columns import VIEWS
from aqltelemetry.views.top.forms import age, clock, cut, date_and_clock, mib, short, sparkline

_WIDE = 110


class Line(Static):
    """A text that is drawn again only if it has changed."""

    _shown: object = None

    def put(self, text: Text) -> None:
        """Show a text."""
        key = (text.plain, tuple(text.spans))
        if key != self._shown:
            self._shown = key
            self.update(text)


def title(directory: str, progress: Progress | None, width: int) -> Text:
    """Return the first line: the directory, and whether the view is live."""
    left = Text(" aqltelemetry top  ", "bold")
    right = Text()
    if progress is not None:
        right.append(*_state(progress))
        form = clock if progress.mode == LIVE else date_and_clock
        right.append(f"  {form(progress.now_ns)} ")
    left.append(cut(directory, max(width - len(left) - len(right) - 1, 4)))
    left.append(" " * max(width - len(left) - len(right), 1))
    return left.append_text(right)


def _state(progress: Progress) -> tuple[str, str]:
    if progress.is_paused:
        return "‖ paused", "bold yellow"
    if progress.older_files:
        return f"● live, {counted(progress.older_files, 'older file')} to read", "bold green"
    if progress.mode == LIVE:
        return "● live", "bold green"
    if progress.mode == ENDED:
        return "■ end of the recording", "bold yellow"
    return f"▶ replay x{progress.speed:g}", "bold cyan"


def overview(totals: Totals, width: int) -> Text:
    """Return the second line: the figures of all routes and workers together."""
    room = 30 if width >= _WIDE else 12
    text = Text(" ")
    text.append(f"{short(totals.per_s)} {totals.what}/s ", "bold")
    text.append(sparkline(resampled(totals.trend, room), room), "cyan")
    text.append("  ")
    style = "bold red" if totals.errors_per_s else "dim"
    text.append(f"{short(totals.errors_per_s) if totals.errors_per_s else 0} errors/s", style)
    text.append(f"  {counted(totals.running, 'worker')}")
    if totals.killed:
        text.append(f", {totals.killed} killed", "bold red")
    if totals.cpu_percent is not None:
        text.append(f"  CPU {totals.cpu_percent:.0f} %")
    if totals.rss_bytes is not None and len(text) + 18 < width:
        text.append(f"  RSS {mib(totals.rss_bytes)} MiB")
    return text


def span(begin_ns: int | None, end_ns: int, recorded_s: float) -> str:
    """Return a line on the time that figures are of."""
    begin = "all" if begin_ns is None else f"{date_and_clock(begin_ns)} to {clock(end_ns)}"
    return f"{begin}, {age(recorded_s)} of it recorded"


def choices(view: str, window: str, pattern: str, width: int) -> Text:
    """Return the third line: the views, the filter and the windows; each can be clicked."""
    left, right = Text(" "), Text()
    for number, name in enumerate(VIEWS, 1):
        style = "reverse bold" if name == view else "dim"
        left.append_text(_link(f" {number} {name} ", style, f"app.view('{name}')"))
        left.append(" ")
    for name in WINDOWS:
        style = "reverse bold" if name == window else "dim"
        right.append_text(_link(f" {name} ", style, f"app.window('{name}')"))
    right.append(" ")
    if pattern:
        left.append(cut(f" /{pattern}", max(width - len(left) - len(right) - 1, 0)), "bold yellow")
    left.append(" " * max(width - len(left) - len(right), 1))
    return left.append_text(right)


def _link(text: str, style: str, action: str) -> Text:
    return Text(text, style).on(click=action)


def stalls(rows: Sequence[Row], lines: int, width: int) -> Text:
    """Return some lines with the latest stalls of event loops."""
    looks = styles(iter([row["cause"] for row in rows]))
    text = Text()
    shown = rows if len(rows) <= lines else rows[: lines - 1]
    for row in shown:
        look = looks[row["cause"]]
        text.append(" ")
        text.append_text(letter(look))
        of = f" in {row['function']}" if row["function"] else ""
        place = f" at {code_line(row['line'])}{of}" if row["line"] else ""
        sentence = f" {clock(row['end_ns'])} blocked for {duration(row['length_s'])}: "
        within = [each for each in (row.get("route"), *reversed(row.get("blocks", ()))) if each]
        of_request = f", in {', '.join(within)}" if within else ""
        sentence += printable(f"{row['cause']}{place}{of_request}, worker {row['pid']}")
        text.append(cut(sentence, width - 3) + "\n")
    if len(rows) > len(shown):
        text.append(f"   {counted(len(rows) - len(shown), 'earlier stall')}\n", "dim")
    text.rstrip()
    return text


def with_not_read(rows: Sequence[Row], progress: Progress) -> Sequence[Row]:
    """Return findings, before them one about what can't be read."""
    if not progress.not_read:
        return rows
    return [{"severity": "warning", "text": progress.not_read, "rule": "not read"}, *rows]


def wrapped(rows: Sequence[Row], width: int) -> list[Row]:
    """Return findings as rows of at most `width` characters: a row for each line of a text."""
    found: list[Row] = []
    for row in rows:
        first, *others = textwrap.wrap(f"{row['text']} [{row['rule']}]", max(width, 20))
        found.append({**row, "text": first})
        found += ({"text": part} for part in others)
    return found


def findings(sentences: Sequence[tuple[str, str]], lines: int, width: int) -> Text:
    """Return some lines with the first findings; `sentences` are pairs of severity and text."""
    styles = {"error": "bold red", "warning": "yellow", "notice": "cyan"}
    text = Text()
    shown = sentences if len(sentences) <= lines else sentences[: lines - 1]
    for severity, sentence in shown:
        text.append(" ▲ ", styles.get(severity, "cyan"))
        text.append(cut(sentence, width - 4) + "\n")
    if len(sentences) > len(shown):
        more = counted(len(sentences) - len(shown), "more finding")
        text.append_text(_link(f"   {more}: press 4", "dim", "app.view('findings')"))
    text.rstrip()
    return text
