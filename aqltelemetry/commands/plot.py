"""`aqltelemetry plot`: draws a recording into a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aqltelemetry.commands.options import (
    EXIT_INCOMPLETE,
    takes_directories,
    takes_journal_dir,
)
from aqltelemetry.commands.recordings import open_recording, parse_moment
from aqltelemetry.errors import MissingExtraError
from aqltelemetry.observation import RUNTIME
from aqltelemetry.reading.listing import summary

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB

_FORMATS = ("png", "svg", "pdf")
_DPI = 150
_MAX_LABELS = 12
_SIMILAR = 5


@click.command()
@takes_directories
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False),
    help="The picture; its name ends with .png, .svg or .pdf.",
)
@click.option(
    "--label",
    "labels",
    metavar="GLOB",
    multiple=True,
    help="Draw these labels instead of all requests; * and ? stand for any text and any "
    "character. Repeatable.",
)
@click.option("--pid", "pids", metavar="N", type=int, multiple=True, help="Only this process.")
@click.option("--since", metavar="TIME", help="Only observations from then on.")
@click.option("--until", metavar="TIME", help="Only observations before then.")
@takes_journal_dir
@click.pass_context
def plot(context: click.Context, /, directories: Sequence[Path], **chosen: Any) -> None:
    """Draw recordings over time: rates, durations, errors and workers.

    Above, the requests per second and the errors among them; below, a heat map of their
    durations, with the median and the 99th percentile; then the event loop's lag, the pauses of
    the garbage collector, processor time, memory and requests in flight of each worker. Dashed
    lines are kills, drops, clock steps and switches. Times are UTC.
    """
    output = str(chosen["output"])
    if Path(output).suffix.removeprefix(".").lower() not in _FORMATS:
        raise click.UsageError(f"{output} must end with .png, .svg or .pdf")
    db = open_recording(
        directories,
        parse_moment("--since", chosen["since"]),
        parse_moment("--until", chosen["until"]),
        chosen["journal_dir"],
        pids=chosen["pids"] or None,
    )
    shown = _matching(db, chosen["labels"])
    try:
        db.plot.timeline(shown).savefig(output, dpi=_DPI)
    except MissingExtraError as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        raise click.ClickException(f"{output} can't be written: {exc.strerror}") from exc
    click.echo(f"written: {output}")
    if db.not_read():
        click.echo(summary(db.not_read()), err=True)
        if any(each.is_lost for each in db.not_read()):
            context.exit(EXIT_INCOMPLETE)


def _matching(db: TelemetryDB, patterns: Sequence[str]) -> list[str]:
    """Return the busiest labels that match; raises ClickException if there are none."""
    from aqltelemetry.views.document import Options  # noqa: PLC0415 - slow to import

    known = [str(label) for label in db.summary().index]
    if not known and not len(db.rows(RUNTIME)):
        raise click.ClickException(f"{', '.join(db.directories)}: nothing was recorded then")
    if not patterns:
        return []
    found = [label for label in known if Options(labels=patterns).has(label)]
    if not found:
        some = ", ".join(known[:_SIMILAR])
        text = " or ".join(map(repr, patterns))
        raise click.ClickException(f"no label matches {text}; there are: {some}")
    return found[:_MAX_LABELS]
