"""The live view on a terminal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.widgets import Footer, Input, Static

from aqltelemetry.views.columns import Row
from aqltelemetry.views.live.player import Player, Progress
from aqltelemetry.views.live.window import WINDOWS, Snapshot
from aqltelemetry.views.top import panels
from aqltelemetry.views.top.columns import VIEWS, is_sortable
from aqltelemetry.views.top.help import Help
from aqltelemetry.views.top.options import Options, matching
from aqltelemetry.views.top.style import CSS
from aqltelemetry.views.top.table import Table

_TALL = 36
_BINS = 60
_SIGNALLED = 128
_BESIDES_FINDING = 14
_NO_FINDINGS: Sequence[Row] = ()


class _Found(NamedTuple):
    """What was read for one drawing; `waits` says why there is nothing."""

    snapshot: Snapshot | None
    progress: Progress | None
    waits: str = ""


class TopApp(App[None]):
    """Shows the figures of a player, and draws them again at an interval.

    Args:
        open_player: Returns the player, or says what it waits for; it is called until it
            returns one.
        directory: The directory, as it is shown.
        options: What to show at first.
        find: Returns the latest findings until a time, as rows.
        is_timed: Whether to draw at an interval; else `step` has to be called.
    """

    TITLE = "aqltelemetry top"
    CSS = CSS
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "Quit"),
        Binding("1", "view('routes')", "Routes", show=False),
        Binding("2", "view('workers')", "Workers", show=False),
        Binding("3", "view('slowest')", "Slowest", show=False),
        Binding("4", "view('findings')", "Findings", show=False),
        Binding("w", "next_window(1)", "Window"),
        Binding("W", "next_window(-1)", show=False),
        Binding("s", "next_order(1)", "Sort"),
        Binding("S", "next_order(-1)", show=False),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "filter", "Filter"),
        Binding("escape", "clear_filter", show=False),
        Binding("space", "pause", "Pause"),
        Binding("left", "seek(-10)", "-10 s", show=False),
        Binding("right", "seek(10)", "+10 s", show=False),
        Binding("shift+left", "seek(-60)", show=False),
        Binding("shift+right", "seek(60)", show=False),
        Binding("question_mark,h", "help", "Help"),
    ]

    def __init__(
        self,
        open_player: Callable[[], Player | str],
        directory: str,
        options: Options,
        *,
        find: Callable[[int], Sequence[Row]] = lambda _now_ns: _NO_FINDINGS,
        is_timed: bool = True,
    ) -> None:
        super().__init__()
        self._open_player = open_player
        self._directory = directory
        self._options = options
        self._find = find
        self._is_timed = is_timed
        self._player: Player | None = None
        self._found = _Found(None, None)
        self._findings: Sequence[Row] = ()
        self._orders = options.orders()
        self._lock = asyncio.Lock()
        self.view = options.view
        self.window = options.window
        self.pattern = options.pattern

    def compose(self) -> ComposeResult:
        """Compose the screen."""
        yield panels.Line(id="title")
        yield panels.Line(id="overview")
        yield panels.Line(id="findings-panel")
        yield panels.Line(id="stalls-panel")
        yield panels.Line(id="choices")
        yield Static(id="message")
        with Vertical(id="tables"):
            for view in VIEWS:
                yield Table(view)
        yield Input(id="filter", placeholder="a part of the label, or a pattern with * and ?")
        yield Footer()

    async def on_mount(self) -> None:
        """Draw for the first time."""
        for view, column in self._orders.items():
            self._table(view).sort_by(column)
        self._arrange()
        if self._is_timed:
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, self._end, number)
            self.set_interval(self._options.interval_s, self.step)
            self.call_later(self.step)

    def _end(self, number: int) -> None:
        """Restore the terminal and end, with the status of a program that a signal ends."""
        self.exit(return_code=_SIGNALLED + number)

    def _table(self, view: str) -> Table:
        return self.query_one(f"#{view}", Table)

    async def step(self) -> None:
        """Read what is new, and draw it."""
        await self._refresh(moves=True)

    async def _refresh(self, *, moves: bool) -> None:
        async with self._lock:
            self._found = await asyncio.to_thread(self._read, moves=moves)
        self._draw()

    def _read(self, *, moves: bool) -> _Found:
        """Return the figures; on a thread, since it takes a while."""
        if self._player is None:
            opened = self._open_player()
            if isinstance(opened, str):
                return _Found(None, None, opened)
            self._player = opened
        try:
            if WINDOWS[self.window] is None:
                self._player.read_older()
            if moves:
                self._player.step()
                self._findings = self._find(self._player.progress.now_ns)
            snapshot = self._player.snapshot(WINDOWS[self.window], bins=_BINS)
        except OSError as exc:
            self._player = None
            return _Found(None, None, f"{exc.filename}: {exc.strerror}")
        waits = "" if snapshot.workers or snapshot.routes else "nothing was recorded yet"
        return _Found(snapshot, self._player.progress, waits)

    def _draw(self) -> None:
        snapshot, progress, waits = self._found
        width = self.size.width
        self._line("title").put(panels.title(self._directory, progress, width))
        self._line("choices").put(panels.choices(self.view, self.window, self.pattern, width))
        self.screen.set_class(bool(waits), "is-waiting")
        self.query_one("#message", Static).update(f"waiting: {waits}" if waits else "")
        if snapshot is None or progress is None:
            return
        self._line("overview").put(panels.overview(snapshot.totals, width))
        lines = 3 if self.size.height < _TALL else 6
        findings = panels.with_not_read(self._findings, progress)
        sentences = [(row["severity"], row["text"]) for row in findings]
        panel = self._line("findings-panel")
        panel.display = bool(sentences) and self.view != "findings"
        panel.put(panels.findings(sentences, lines, width))
        stalled = self._line("stalls-panel")
        stalled.display = bool(snapshot.stalls)
        stalled.put(panels.stalls(snapshot.stalls, lines, width))
        room = width - _BESIDES_FINDING
        rows = {**snapshot._asdict(), "findings": panels.wrapped(findings, room)}
        for view in VIEWS:
            table = self._table(view)
            if table.display:
                table.show(matching(view, rows[view], self.pattern, self.view))

    def _line(self, name: str) -> panels.Line:
        return self.query_one(f"#{name}", panels.Line)

    def _arrange(self) -> None:
        """Show the table of the view, and on a tall terminal routes with workers."""
        both = self.size.height >= _TALL and self.view in {"routes", "workers"}
        shown = ("routes", "workers") if both else (self.view,)
        for view in VIEWS:
            table = self._table(view)
            table.set_class(view in shown, "is-shown")
            table.set_class(both and view == "routes", "is-first")
            table.set_class(both and view == "workers", "is-second")
        if not self.screen.has_class("is-filtering"):
            self._table(self.view).focus()

    def on_resize(self, event: Resize) -> None:
        """Arrange the tables for the new size."""
        del event
        self._arrange()
        self._draw()

    def action_view(self, view: str) -> None:
        """Show another view."""
        self.view = view
        self._arrange()
        self._draw()

    async def action_window(self, window: str) -> None:
        """Choose a window."""
        self.window = window
        await self._refresh(moves=False)

    async def action_next_window(self, step: int) -> None:
        """Choose the next window, or the previous one."""
        names = list(WINDOWS)
        await self.action_window(names[(names.index(self.window) + step) % len(names)])

    def action_next_order(self, step: int) -> None:
        """Sort by the next column that is shown, or the previous one."""
        table = self._table(self.view)
        columns = [place.column for place in table.places if is_sortable(place.column)]
        if columns:
            at = columns.index(table.sorted_by) if table.sorted_by in columns else -1
            table.sort_by(columns[(at + step) % len(columns)])

    def action_reverse(self) -> None:
        """Reverse the order."""
        table = self._table(self.view)
        table.sort_by(table.sorted_by, is_reversed=not table.is_reversed)

    def on_table_head_clicked(self, message: Table.HeadClicked) -> None:
        """Sort by the column, or reverse the order if it is sorted by it."""
        table = self._table(message.view)
        self.view = message.view
        if is_sortable(message.column):
            again = table.sorted_by is message.column
            table.sort_by(message.column, is_reversed=again and not table.is_reversed)
        self._draw()

    def action_filter(self) -> None:
        """Ask for a filter."""
        self.screen.add_class("is-filtering")
        box = self.query_one("#filter", Input)
        box.value = self.pattern
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self.pattern = event.value
        self._draw()

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self.screen.remove_class("is-filtering")
        self._arrange()

    def action_clear_filter(self) -> None:
        """Show all rows again."""
        self.pattern = ""
        self.on_input_submitted()
        self._draw()

    async def action_pause(self) -> None:
        """Pause the display, or go on."""
        player = self._player
        if player is not None:
            player.pause(is_paused=not player.progress.is_paused)
            await self._refresh(moves=True)

    async def action_seek(self, seconds: int) -> None:
        """Move a replay by some seconds."""
        player = self._player
        if player is not None:
            await asyncio.to_thread(player.seek, seconds)
            await self._refresh(moves=False)

    def action_help(self) -> None:
        """Explain the columns and the keys."""
        self.push_screen(Help(self.view))
