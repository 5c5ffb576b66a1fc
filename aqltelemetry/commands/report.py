"""`aqltelemetry report`: summarises a recording."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aqltelemetry.audit import unpublished
from aqltelemetry.commands.options import (
    EXIT_INCOMPLETE,
    existing,
    missing_extra,
    takes_directory,
)
from aqltelemetry.errors import MomentError, TelemetryError
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.listing import summary
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.system.logs import log

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB

_MIN_COLUMNS = 120


@click.command()
@takes_directory
@click.option("--since", metavar="TIME", help="Include observations of this time or later.")
@click.option("--until", metavar="TIME", help="Include observations before this time.")
@click.pass_context
def report(
    context: click.Context, directory: str | None, since: str | None, until: str | None
) -> None:
    """Summarise a recording, per label and per process.

    \b
    TIME is one of
      5m, 1h30m, "2 days ago"        before now
      14:30, yesterday               today at 14:30; yesterday at 0:00
      2026-11-24, "2026-11-24 10:00", 2026-11-24T10:00:00+01:00
      1795489012                     seconds or nanoseconds since the epoch
    in the local time zone, unless it names one: Z, UTC, +01:00, Europe/Berlin.

    \b
    count        number of observations
    per s        count per second of recording: from each process's start to its
                 last sample; time that several processes share counts once
    p50 p95 p99  durations that 50, 95, 99 % of the observations do not exceed
    GC, lag      pauses of the garbage collector; delays of the event loop
    """  # noqa: D301 - click's mark for lines that are not to be filled
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra, and slow to import

        from aqltelemetry.views.report import render  # noqa: PLC0415 - as above
    except ImportError as exc:
        raise missing_extra("report", exc) from exc
    path = existing(directory)
    loaded = _load(path, _moment("--since", since), _moment("--until", until))
    _check_not_empty(loaded, path)
    # As wide as the tables need: a narrower terminal breaks the lines, not the numbers.
    console = Console(highlight=False)
    console.width = max(console.width, _MIN_COLUMNS)
    render(loaded, console)
    if text := _unpublished(path):
        click.echo(f"not in these figures: {text}")
    if loaded.not_read():
        click.echo(summary(loaded.not_read()))
    if any(each.is_lost for each in loaded.not_read()):
        context.exit(EXIT_INCOMPLETE)


def _load(directory: Path, since_ns: int | None, until_ns: int | None) -> TelemetryDB:
    """Load a whole directory without logging; the caller reports the files that are not read."""
    from aqltelemetry.reading.csv_frames import ForeignFileWarning  # noqa: PLC0415 - as above
    from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - as above

    log.addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ForeignFileWarning)
            loaded = TelemetryDB(directory, since=since_ns, until=until_ns)
            for prefix in loaded.prefixes():
                loaded.frame(prefix, missing_ok=True)
            loaded.frame(ACCOUNT)
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc
    return loaded


def _moment(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else moment_ns(text, option)
    except MomentError as exc:
        raise click.UsageError(f"{option} {text!r} {exc.rule}") from exc


def _check_not_empty(loaded: TelemetryDB, directory: Path) -> None:
    if any(not loaded.frame(prefix).data().empty for prefix in loaded.prefixes()):
        return
    if loaded.prefixes():
        text = f"{directory}: nothing was recorded between --since and --until"
    else:
        text = (
            f"{directory}: no files yet; a running service publishes its first about a minute "
            "after its start (max_file_age_s), or when it stops"
        )
    left, not_read = _unpublished(directory), summary(loaded.not_read())
    notes = [f"in the journal: {left}" if left else "", not_read]
    raise click.ClickException("\n".join([text, *(note for note in notes if note)]))


def _unpublished(directory: Path) -> str:
    """Describe the observations in the journal; "" if there are none or it can't be read."""
    try:
        return unpublished.describe(unpublished.count(str(directory)), str(directory))
    except (TelemetryError, OSError):
        return ""
