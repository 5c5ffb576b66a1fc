"""`aqltelemetry top`: a live view of recordings, or a replay, on the terminal."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aqltelemetry.commands.options import (
    checked_settings,
    missing_extra,
    takes_journal_dir,
    takes_new_directories,
)
from aqltelemetry.errors import MomentError, TelemetryError
from aqltelemetry.quantities import parse_seconds
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.system.clock import NS_PER_S, epoch_ns
from aqltelemetry.system.logs import log

if TYPE_CHECKING:
    from aqltelemetry.views.live.finder import Findings
    from aqltelemetry.views.live.player import Player
    from aqltelemetry.views.top.options import Options

_VIEWS = ("routes", "workers", "slowest", "findings")
_WINDOWS = ("10s", "1m", "5m", "all")
_FOUND_IN_S = 300
_BINS = 60
_WIDTH = 120


@click.command()
@takes_new_directories
@click.option("--view", type=click.Choice(_VIEWS), default="routes", help="What to show at first.")
@click.option(
    "--window",
    type=click.Choice(_WINDOWS),
    default="1m",
    show_default=True,
    help="The time that figures are of.",
)
@click.option("--sort", metavar="COLUMN", help="Sort by this column where there is one.")
@click.option(
    "--filter",
    "pattern",
    metavar="TEXT",
    default="",
    help="Show only labels that contain TEXT, or match it if it has * or ?.",
)
@click.option(
    "--interval",
    metavar="TIME",
    default="1s",
    show_default=True,
    help="The time between two drawings, from 0.2s on.",
)
@click.option("--at", metavar="TIME", help="Replay the recording from this time on.")
@click.option(
    "--speed",
    metavar="N",
    type=click.FloatRange(0.01, 10_000),
    default=1.0,
    show_default=True,
    help="Seconds of a replay for each second.",
)
@click.option("--once", "form", flag_value="once", help="Print one screen as plain text.")
@click.option("--json", "form", flag_value="json", help="Print the window's figures as JSON.")
@takes_journal_dir
def top(directories: Sequence[Path], /, **chosen: Any) -> None:
    """Watch recordings live on the terminal, or replay them.

    \b
    1 2 3 4     routes, workers, slowest, findings    ?   columns and keys
    w           window: 10 s, 1 min, 5 min, all       /   filter
    s, r        sort, reverse; or click on a head     space   pause
    left, right in a replay: 10 s back, ahead         q   quit

    With --at, a recording is replayed, alive or dead; TIME is as in `aqltelemetry report`.
    Percentiles are at most 0.8 % off, other figures are exact. --json prints the document of
    `aqltelemetry report --json` for the window, with exact percentiles. The recorded processes
    do not notice: nothing is written, and no lock is held that they wait for.
    """  # noqa: D301 - click's mark for lines that are not to be filled
    choice = _Choice(tuple(map(str, directories)), **chosen)
    for each in directories:
        if each.is_dir():
            checked_settings(each, choice.journal_dir)
    log.addHandler(logging.NullHandler())
    try:
        if choice.form == "json":
            click.echo(json.dumps(_document(choice), indent=2))
        elif choice.form == "once":
            click.echo(_screen(choice))
        else:
            _run(choice)
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc


class _Choice(NamedTuple):
    """The values of the options."""

    directories: Sequence[str]
    view: str
    window: str
    sort: str | None
    pattern: str
    interval: str
    at: str | None
    speed: float
    form: str | None
    journal_dir: str | None

    def at_ns(self) -> int | None:
        """Return the time where a replay begins; raises UsageError if it is none."""
        try:
            return None if self.at is None else moment_ns(self.at, "--at")
        except MomentError as exc:
            raise click.UsageError(f"--at {self.at!r} {exc.rule}") from exc

    def interval_s(self) -> float:
        """Return the time between two drawings; raises UsageError if it is none."""
        try:
            seconds = parse_seconds(self.interval)
        except ValueError:
            seconds = 0.0
        if not 0.2 <= seconds <= 3600:  # noqa: PLR2004
            raise click.UsageError(f"--interval {self.interval!r} must be a time from 0.2s to 1h")
        return seconds

    def missing(self) -> str:
        """Return what there is to wait for: a directory that does not exist; "" for nothing."""
        gone = next((each for each in self.directories if not os.path.isdir(each)), None)
        return "" if gone is None else f"{gone} does not exist yet: nothing was recorded there"

    def find(self, begin_ns: int, end_ns: int) -> Findings:
        """Return the findings between two times, as dicts."""
        from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - an extra
        from aqltelemetry.views.findings.find import find  # noqa: PLC0415 - an extra

        db = TelemetryDB(
            self.directories, since=begin_ns, until=end_ns, live=True, journal_dir=self.journal_dir
        )
        return [finding.as_dict() for finding in find(db)]

    def options(self) -> Options:
        """Return what to show."""
        from aqltelemetry.views.top.options import Options  # noqa: PLC0415 - an extra

        chosen = Options(self.view, self.window, self.sort, self.pattern, self.interval_s())
        chosen.orders()
        return chosen


def _run(choice: _Choice) -> None:
    """Show the screen until the user quits."""
    try:
        from aqltelemetry.views.live.finder import Finder  # noqa: PLC0415 - an extra
        from aqltelemetry.views.top.app import TopApp  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise missing_extra("top", exc) from exc
    open_player, options = _opener(choice), choice.options()
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError("the live view needs a terminal; use --once or --json in a pipe")
    finder = Finder(choice.find)
    shown = ", ".join(choice.directories)
    app = TopApp(open_player, shown, options, find=finder.latest)
    app.run()
    click.get_current_context().exit(app.return_code or 0)


def _opener(choice: _Choice) -> Callable[[], Player | str]:
    """Return a function that opens the player, or returns what it waits for."""
    from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - an extra
    from aqltelemetry.views.live.player import Player  # noqa: PLC0415 - an extra
    from aqltelemetry.views.live.sources import Past, Running  # noqa: PLC0415 - an extra

    at_ns, journal_dir = choice.at_ns(), choice.journal_dir

    def open_player() -> Player | str:
        if missing := choice.missing():
            return missing
        if at_ns is None:
            return Player(Running(choice.directories, epoch_ns(), journal_dir), epoch_ns)
        past = Past(TelemetryDB(choice.directories, live=True, journal_dir=journal_dir))
        return Player(past, epoch_ns, begin_ns=at_ns, speed=choice.speed)

    return open_player


def _screen(choice: _Choice) -> str:
    """Return one screen as text; raises ClickException if there is nothing to show."""
    try:
        from aqltelemetry.views.live.window import WINDOWS  # noqa: PLC0415 - an extra
        from aqltelemetry.views.top.plain import screen  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise missing_extra("top", exc) from exc
    options = choice.options()
    player = _opener(choice)()
    if isinstance(player, str):
        raise click.ClickException(player)
    if choice.window == "all":
        player.read_older()
    player.step()
    while player.progress.older_files:
        player.step()
    now_ns = player.progress.now_ns
    return screen(
        player.snapshot(WINDOWS[choice.window], bins=_BINS),
        player.progress,
        directory=", ".join(choice.directories),
        findings=choice.find(now_ns - _FOUND_IN_S * NS_PER_S, now_ns),
        options=options,
        width=shutil.get_terminal_size((_WIDTH, 24)).columns,
        is_ascii=not _prints_blocks(),
    )


def _prints_blocks() -> bool:
    try:
        "▁●▲".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _document(choice: _Choice) -> dict[str, Any]:
    """Return the report's document of the window; raises ClickException without a directory."""
    try:
        from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - an extra
        from aqltelemetry.views.document import document  # noqa: PLC0415 - an extra
        from aqltelemetry.views.live.window import WINDOWS  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise missing_extra("top", exc) from exc
    if missing := choice.missing():
        raise click.ClickException(missing)
    at_ns = choice.at_ns()
    end_ns = (epoch_ns() if at_ns is None else at_ns) // NS_PER_S * NS_PER_S
    window_s = WINDOWS[choice.window]
    db = TelemetryDB(
        choice.directories,
        since=None if window_s is None else end_ns - window_s * NS_PER_S,
        until=end_ns,
        live=True,
        journal_dir=choice.journal_dir,
    )
    return document(db)
