"""The commands that look after the journal: `verify`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from aqltelemetry.clock import utc
from aqltelemetry.errors import TelemetryError
from aqltelemetry.journal.placement import all_roots
from aqltelemetry.settings import settings
from aqltelemetry.verification import Verdict

_directory = click.argument(
    "directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
_journal_dir = click.option(
    "--journal-dir",
    metavar="PATH",
    help="Where the journal is, if the recording was told so.",
)


@click.command()
@_directory
@_journal_dir
@click.option("-q", "--quiet", is_flag=True, help="Only the sum, and what can't be explained.")
def verify(directory: Path, journal_dir: str | None, *, quiet: bool) -> None:
    """Prove from the files in DIR that nothing is lost, and nothing there twice.

    Holds the rows of each recording process against its accounts: each observation
    that was accepted is in a file once, in the journal, in a file that a reader or
    retention removed, or was dropped and counted. Ends with 1 if anything can't be
    explained. May be run while processes record.
    """
    from aqltelemetry import verification  # noqa: PLC0415 - what other commands don't need

    verdicts = verification.verify(directory, _roots(directory, journal_dir))
    for verdict in verdicts:
        if not quiet or verdict.problems:
            for line in _lines(verdict):
                click.echo(line)
    problems = sum(len(verdict.problems) for verdict in verdicts)
    click.echo(f"{len(verdicts)} recordings: {_sum(verdicts)}")
    if problems:
        raise click.ClickException(f"{problems} findings can't be explained")
    click.echo("all is explained")


def _roots(directory: Path, journal_dir: str | None) -> Sequence[Path]:
    try:
        chosen = settings(directory, {} if journal_dir is None else {"journal_dir": journal_dir})
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc
    # A directory of another user has its journal under that user's name.
    return all_roots(chosen.directory, chosen.journal_dir, uid=os.stat(directory).st_uid)


def _lines(verdict: Verdict) -> Iterable[str]:
    yield f"process {verdict.pid}, {verdict.writer}: {verdict.state}"
    yield f"  {_sum([verdict])}"
    for dropped in verdict.dropped:
        yield f"  dropped: {dropped.total:,} {dropped.reason}, the last at {utc(dropped.last_ns)}"
    if verdict.retired_files:
        yield f"  removed {verdict.retired_files:,} files by the rules of retention"
    for problem in verdict.problems:
        yield f"  NOT EXPLAINED: {problem}"


def _sum(verdicts: Sequence[Verdict]) -> str:
    def total(name: str) -> int:
        return sum(getattr(verdict, name) for verdict in verdicts)

    removed = f"{total('removed'):,} in files that were removed"
    if not all(verdict.is_removed_exact for verdict in verdicts):
        removed = f"at least {removed}"
    dropped = sum(dropped.total for verdict in verdicts for dropped in verdict.dropped)
    return (
        f"{total('accepted'):,} accepted: {total('rows'):,} rows, "
        f"{total('in_journal'):,} in the journal, {removed}, "
        f"{total('torn') + total('unreadable'):,} torn or unreadable; {dropped:,} dropped"
    )
