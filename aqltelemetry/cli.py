"""The command `aqltelemetry`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aqltelemetry.errors import TelemetryError

if TYPE_CHECKING:
    from aqltelemetry.loader import TelemetryDB

_PIPE_COLUMNS = 120


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("aqltelemetry"), prog_name="aqltelemetry")
def main() -> None:
    """Look at what aqltelemetry recorded."""


@main.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--since", metavar="TIME", help="Only what was observed then or later (UTC).")
@click.option("--until", metavar="TIME", help="Only what was observed before then (UTC).")
def report(directory: Path, since: str | None, until: str | None) -> None:
    """Summarise the recording in DIR, per label and per worker."""
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra, and slow to load

        from aqltelemetry.loader import TelemetryDB  # noqa: PLC0415
        from aqltelemetry.report import render  # noqa: PLC0415
    except ImportError as exc:
        raise _missing("report", exc) from exc
    try:
        loaded = TelemetryDB(directory, since=since, until=until)
        _check_not_empty(loaded, directory)
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc
    except ValueError as exc:
        raise click.UsageError(f"--since, --until: {exc}") from exc
    # Wide enough for the tables where no terminal says how wide it is.
    console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False)
    render(loaded, console)


@main.command()
@click.option(
    "--dir",
    "directory",
    default="_monitoring",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to record; earlier recordings there are removed.",
)
@click.option("--keep", is_flag=True, help="Keep earlier recordings.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--requests", default=4000, show_default=True, type=click.IntRange(1))
@click.option("--connections", default=16, show_default=True, type=click.IntRange(1, 1000))
def demo(directory: Path, workers: int, requests: int, connections: int, *, keep: bool) -> None:
    """Record a real service under load, then report on it.

    Starts an aiohttp service on uvloop under Gunicorn, sends it requests, stops
    it, and prints the report of what is in the files.
    """
    try:
        from aqltelemetry.demo.drive import DemoError, run  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise _missing("demo", exc) from exc
    if not keep:
        _clear(directory)
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
    click.get_current_context().invoke(report, directory=directory, since=None, until=None)


def _check_not_empty(loaded: TelemetryDB, directory: Path) -> None:
    if loaded.duration().data().empty and loaded.runtime().data().empty:
        found = ", ".join(f"{prefix}.*.csv" for prefix in loaded.prefixes())
        what = f"only {found}" if found else "no CSV file"
        raise click.ClickException(
            f"{directory}: holds no durations or runtime series ({what} in it)"
        )


def _missing(extra: str, exc: ImportError) -> click.ClickException:
    return click.ClickException(f"{exc}; it comes with: pip install 'aqltelemetry[{extra}]'")


def _clear(directory: Path) -> None:
    """Remove earlier recordings, and nothing else."""
    from aqltelemetry import filenames  # noqa: PLC0415 - only here

    if directory.is_dir():
        for path in directory.iterdir():
            if filenames.parse(path.name) is not None:
                path.unlink()
