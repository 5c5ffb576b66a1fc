"""The command `aqltelemetry`."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import warnings
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aqltelemetry.audit import unpublished
from aqltelemetry.commands.doctor import doctor
from aqltelemetry.commands.journal import recover, verify
from aqltelemetry.commands.options import EXIT_INCOMPLETE, existing, takes_directory
from aqltelemetry.commands.run import run
from aqltelemetry.commands.switch import off, on, profile
from aqltelemetry.errors import MomentError, TelemetryError
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.quantities import counted
from aqltelemetry.reading.listing import summary
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.settings import default_directory
from aqltelemetry.system.clock import epoch_ns
from aqltelemetry.system.extensions import in_use
from aqltelemetry.system.logs import log

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB

_MIN_COLUMNS = 120


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(f"{version('aqltelemetry')} ({in_use()})", prog_name="aqltelemetry")
def main() -> None:
    """Record Python services, and look at what was recorded."""
    for stream in (sys.stdout, sys.stderr):
        # A file's name need not be text that can be printed.
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


for each in (run, doctor, off, on, profile, verify, recover):
    main.add_command(each)


@main.command()
@takes_directory
@click.option("--since", metavar="TIME", help="Only what was observed then or later.")
@click.option("--until", metavar="TIME", help="Only what was observed before then.")
@click.pass_context
def report(
    context: click.Context, directory: str | None, since: str | None, until: str | None
) -> None:
    """Summarise a recording, per label and per process.

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

        from aqltelemetry.views.report import render  # noqa: PLC0415
    except ImportError as exc:
        raise _missing("report", exc) from exc
    path = existing(directory)
    loaded = _load(path, _moment("--since", since), _moment("--until", until))
    _check_not_empty(loaded, path)
    # As wide as the tables need: where the terminal is narrower, it breaks the lines,
    # and numbers stay whole.
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
    """Load all of a directory; what is not read is for the caller to say."""
    from aqltelemetry.reading.csv_frames import ForeignFileWarning  # noqa: PLC0415 - as above
    from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415

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


@main.command()
@takes_directory
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--requests", default=4000, show_default=True, type=click.IntRange(1))
@click.option("--connections", default=16, show_default=True, type=click.IntRange(1, 1000))
def demo(directory: str | None, workers: int, requests: int, connections: int) -> None:
    """Record a real service under load, and report on it.

    Starts an aiohttp service on uvloop under Gunicorn, sends it requests, stops
    it, and prints the report of what is in the files. It records into DIR; earlier
    recordings there stay. Takes some seconds.
    """
    try:
        from aqltelemetry.demo.drive import DemoError, run  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise _missing("demo", exc) from exc
    since = str(epoch_ns())
    path = Path(directory or default_directory())
    click.echo(
        f"starting an aiohttp service with {counted(workers, 'worker')}; it records into {path}/"
    )
    try:
        with click.progressbar(length=requests, label="requests", file=sys.stderr) as bar:
            sent = run(
                path,
                workers=workers,
                requests=requests,
                connections=connections,
                progress=bar.update,
            )
    except (DemoError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{sum(sent.values())} requests were answered; the service has stopped")
    context = click.get_current_context()
    context.invoke(report, directory=str(path), dir_option=None, since=since, until=None)
    click.echo(_next_steps(path))


def _next_steps(directory: Path) -> str:
    """Return the commands to try after the demo, as they are typed in this directory."""
    program = "aqltelemetry"
    called = Path(sys.argv[0])
    if called.name == program and shutil.which(program) != str(called.absolute()):
        program = os.path.relpath(called)
    shown = shlex.quote(str(directory))
    steps = {
        f"{program} verify {shown}": "prove that no observation is missing",
        f"{program} doctor {shown}": "see what records there and what does not work",
        f"{program} run -- COMMAND": "record a service of your own",
    }
    width = max(map(len, steps))
    lines = (f"  {command:{width}}  # {purpose}" for command, purpose in steps.items())
    return "\n".join(("", "try next:", *lines))


def _moment(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else moment_ns(text, option)
    except MomentError as exc:
        raise click.UsageError(f"{option} {text!r} {exc.rule}") from exc


def _check_not_empty(loaded: TelemetryDB, directory: Path) -> None:
    if any(not loaded.frame(prefix).data().empty for prefix in loaded.prefixes()):
        return
    if loaded.prefixes():
        text = f"{directory}: nothing was recorded in the time that was asked for"
    else:
        text = (
            f"{directory}: no files yet; a running service publishes its first about a minute "
            "after its start (max_file_age_s), or when it stops"
        )
    left, not_read = _unpublished(directory), summary(loaded.not_read())
    notes = [f"in the journal: {left}" if left else "", not_read]
    raise click.ClickException("\n".join([text, *(note for note in notes if note)]))


def _unpublished(directory: Path) -> str:
    """Say what is still in the journal; "" if nothing is, or if that can't be found out."""
    try:
        return unpublished.describe(unpublished.count(str(directory)), str(directory))
    except (TelemetryError, OSError):
        return ""


def _missing(extra: str, exc: ImportError) -> click.ClickException:
    return click.ClickException(f"{exc}; it comes with the extra aqltelemetry[{extra}]")
