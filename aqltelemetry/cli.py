"""The command `aqltelemetry`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aqltelemetry.clock import epoch_ns
from aqltelemetry.commands.doctor import doctor
from aqltelemetry.commands.journal import recover, verify
from aqltelemetry.commands.run import run
from aqltelemetry.commands.switch import off, on, profile
from aqltelemetry.errors import MomentError, TelemetryError
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.twins import IN_USE

if TYPE_CHECKING:
    from aqltelemetry.loader import TelemetryDB

_MIN_COLUMNS = 120


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(f"{version('aqltelemetry')} ({IN_USE})", prog_name="aqltelemetry")
def main() -> None:
    """Record Python services, and look at what was recorded."""
    for stream in (sys.stdout, sys.stderr):
        # A file's name need not be text that can be printed.
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


for each in (run, doctor, off, on, profile, verify, recover):
    main.add_command(each)


@main.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--since", metavar="TIME", help="Only what was observed then or later.")
@click.option("--until", metavar="TIME", help="Only what was observed before then.")
def report(directory: Path, since: str | None, until: str | None) -> None:
    """Summarise the recording in DIR, per label and per worker.

    \b
    TIME is one of
      5m, 1h30m, "2 days ago"        before now
      14:30, yesterday               of today; the midnight before
      2026-11-24, "2026-11-24 10:00", 2026-11-24T10:00:00+01:00
      1795489012                     seconds or nanoseconds since the epoch
    and local unless it names a zone, as Z, UTC, +01:00 or Europe/Berlin.

    \b
    count        how many there were
    per s        count by the seconds recorded: from each process's start to its
                 last sample; time that several processes share counts once
    p50 p95 p99  durations that 50, 95, 99 % of all did not exceed
    GC, lag      pauses of the garbage collector; how late the event loop is
    """  # noqa: D301 - click's mark for lines that are not to be filled
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra, and slow to load

        from aqltelemetry.loader import TelemetryDB  # noqa: PLC0415
        from aqltelemetry.report import render  # noqa: PLC0415
    except ImportError as exc:
        raise _missing("report", exc) from exc
    try:
        loaded = TelemetryDB(
            directory, since=_moment("--since", since), until=_moment("--until", until)
        )
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc
    _check_not_empty(loaded, directory)
    # As wide as the tables need: where the terminal is narrower, it breaks the lines,
    # and numbers stay whole.
    console = Console(highlight=False)
    console.width = max(console.width, _MIN_COLUMNS)
    render(loaded, console)


@main.command()
@click.option(
    "--dir",
    "directory",
    default="_monitoring",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to record; earlier recordings there stay.",
)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--requests", default=4000, show_default=True, type=click.IntRange(1))
@click.option("--connections", default=16, show_default=True, type=click.IntRange(1, 1000))
def demo(directory: Path, workers: int, requests: int, connections: int) -> None:
    """Record a real service under load, then report on it.

    Starts an aiohttp service on uvloop under Gunicorn, sends it requests, stops
    it, and prints the report of what is in the files.
    """
    try:
        from aqltelemetry.demo.drive import DemoError, run  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise _missing("demo", exc) from exc
    since = str(epoch_ns())
    click.echo(f"an aiohttp service with {workers} workers records into {directory}/")
    try:
        with click.progressbar(length=requests, label="requests", file=sys.stderr) as bar:
            sent = run(
                directory,
                workers=workers,
                requests=requests,
                connections=connections,
                progress=bar.update,
            )
    except (DemoError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{sum(sent.values())} requests were answered; the service has stopped")
    click.get_current_context().invoke(report, directory=directory, since=since, until=None)


def _moment(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else moment_ns(text, option)
    except MomentError as exc:
        raise click.UsageError(f"{option} {text!r} {exc.rule}") from exc


def _check_not_empty(loaded: TelemetryDB, directory: Path) -> None:
    if any(not loaded.frame(prefix).data().empty for prefix in loaded.prefixes()):
        return
    if loaded.prefixes():
        raise click.ClickException(f"{directory}: holds nothing of the time that was asked for")
    raise click.ClickException(
        f"{directory}: holds no recording; a running service publishes its first a minute "
        "after its start (max_file_age_s), or when it stops"
    )


def _missing(extra: str, exc: ImportError) -> click.ClickException:
    return click.ClickException(f"{exc}; it comes with the extra aqltelemetry[{extra}]")
