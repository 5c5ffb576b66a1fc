"""`aqltelemetry autopsy`: what dead processes were doing, and how they ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from aqltelemetry.autopsy.publication import autopsy_of, is_notable
from aqltelemetry.autopsy.text import summary, text
from aqltelemetry.commands.options import (
    journal_roots,
    takes_existing_directory,
    takes_journal_dir,
)
from aqltelemetry.journal.dead_writers import find_writers
from aqltelemetry.journal.dir_lock import is_alive
from aqltelemetry.journal.evidence import OF_A_DEATH
from aqltelemetry.sinks import autopsies


@click.command()
@takes_existing_directory
@takes_journal_dir
@click.option("--pid", metavar="N", type=click.IntRange(1), help="Only of processes with this PID.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead.")
@click.pass_context
def autopsy(
    context: click.Context,
    directory: Path,
    journal_dir: str | None,
    *,
    pid: int | None,
    as_json: bool,
) -> None:
    """Show how processes died, and what they were doing then.

    Prints a line for each process that recorded into DIR and ended without a stop,
    the latest first, and then the whole autopsy of the latest; with --pid, the whole
    autopsy of each. Changes nothing: of processes whose observations are not recovered
    yet, it reads the journal.

    \b
    Exit status:
      0  there is an autopsy
      1  there is none
    """  # noqa: D301 - click's mark for lines that are not to be filled
    found = sorted(_all(directory, journal_roots(directory, journal_dir)), key=_end, reverse=True)
    chosen = [each for each in found if pid in (None, each["pid"])]
    if as_json:
        click.echo(json.dumps(chosen, indent=1))
    elif chosen:
        if pid is None:
            for each in chosen:
                click.echo(summary(each))
            click.echo()
            chosen = chosen[:1]
        click.echo("\n".join(text(each) for each in chosen), nl=False)
    else:
        which = "" if pid is None else f" with PID {pid}"
        click.echo(f"no process{which} that recorded into {directory} ended without a stop")
    context.exit(0 if chosen else 1)


def _all(directory: Path, roots: Sequence[Path]) -> Iterator[dict[str, Any]]:
    yield from autopsies.read(str(directory))
    known = autopsies.writers(str(directory))
    for root in roots:
        for path in find_writers(root):
            is_of_a_death = any((path / name).exists() for name in OF_A_DEATH)
            if path.name not in known and is_of_a_death and not is_alive(path):
                found = autopsy_of(str(directory), path)
                if is_notable(found):
                    yield found


def _end(found: dict[str, Any]) -> int:
    return int(found["end_ns"])
