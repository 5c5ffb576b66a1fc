"""`aqltelemetry verify`: proves that no observation is lost or there twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from aqltelemetry.audit import verify as audit
from aqltelemetry.audit.evidence import unreadable_archives
from aqltelemetry.audit.rolled_up import RolledUp, rolled_up
from aqltelemetry.audit.verify import Verdict
from aqltelemetry.commands.options import (
    IncompleteError,
    journal_roots,
    missing_extra,
    takes_directories,
    takes_journal_dir,
)
from aqltelemetry.quantities import counted
from aqltelemetry.sinks import stall_details
from aqltelemetry.system.clock import utc


@click.command()
@takes_directories
@takes_journal_dir
@click.option("-q", "--quiet", is_flag=True, help="Print the totals and the problems only.")
@click.option(
    "--readers-delete",
    is_flag=True,
    help="Accept files that are gone without an account: readers delete files here.",
)
def verify(
    directories: Sequence[Path], journal_dir: str | None, *, quiet: bool, readers_delete: bool
) -> None:
    """Prove that no observation is lost or there twice.

    Compares the rows of each recording process with its accounts: each accepted
    observation is in a file once, in the journal, or in a file that retention
    removed; all others were dropped and counted. You can run it while processes
    record. Several directories are examined as one, such as one that was recorded
    into, and another one with its archives.

    \b
    Exit status:
      0  proved
      1  rows are missing from a file or there twice, a file is damaged, or
         the last files of a recording are missing
      3  whole files are gone, and no account says that retention
         removed them: somebody deleted them, or they were lost; or archives in
         another directory can't be read, so that nothing is proved
    """  # noqa: D301 - click's mark for lines that are not to be filled
    try:
        unreadable = unreadable_archives(directories)
        verdicts = [] if unreadable else audit.verify(directories, _roots(directories, journal_dir))
        sums = rolled_up(directories)
    except ImportError as exc:
        raise missing_extra("pyarrow", exc) from exc
    except OSError as exc:
        raise click.ClickException(f"not everything can be read: {exc}") from exc
    if unreadable:
        raise IncompleteError(_unreadable(unreadable))
    if not verdicts:
        click.echo(f"{', '.join(map(str, directories))}: nothing is recorded there")
        return
    lines = [*_verdict_lines(verdicts, quiet=quiet), *_roll_up_lines(sums)]
    for line in [*lines, *_detail_lines(directories)]:
        click.echo(line)
    problems = sum(len(verdict.problems) for verdict in verdicts) + len(sums.problems)
    if problems:
        raise click.ClickException(f"{counted(problems, 'finding')} can't be explained")
    if not all(verdict.is_accounted_for for verdict in verdicts) and not readers_delete:
        raise IncompleteError("\n".join(_missing_files(verdicts)))
    click.echo("all is explained")


def _verdict_lines(verdicts: Sequence[Verdict], *, quiet: bool) -> Iterable[str]:
    for verdict in verdicts:
        if not quiet or verdict.problems:
            yield from _lines(verdict)
    yield f"{counted(len(verdicts), 'recording')}: {_sum(verdicts)}"


def _roll_up_lines(sums: RolledUp) -> Iterable[str]:
    if sums.files:
        rows, files = counted(sums.rows, "row"), counted(sums.csv_files, "file")
        yield f"{counted(sums.files, 'roll-up')}: {rows} of {files}, each once"
    for problem in sums.problems:
        yield f"  NOT EXPLAINED: {problem}"


def _detail_lines(directories: Sequence[Path]) -> Iterable[str]:
    found = stall_details.read(map(str, directories), with_unpublished=True)
    number = sum(1 for _ in found)
    if number:
        yield f"details of {counted(number, 'stall')}"


def _roots(directories: Sequence[Path], journal_dir: str | None) -> list[Path]:
    roots = [root for each in directories for root in journal_roots(each, journal_dir)]
    return [*dict.fromkeys(roots)]


def _unreadable(archives: Mapping[str, str]) -> str:
    name, reason = next(iter(archives.items()))
    return (
        f"{counted(len(archives), 'archive')} can't be read, such as {name}: {reason}\n"
        "if they were moved: aqltelemetry verify DIR PLACE, "
        "and aqltelemetry compact DIR --to PLACE makes the links again"
    )


def _missing_files(verdicts: Sequence[Verdict]) -> Iterable[str]:
    yield "files are gone, and no account says that retention removed them"
    retired = max(verdict.retired_files for verdict in verdicts)
    if retired and not any(verdict.retired for verdict in verdicts):
        yield (
            f"an account of an earlier version counts {counted(retired, 'file')} that retention "
            "removed, but does not name them: how many are among these is unknown"
        )
    yield "if readers delete files here: --readers-delete"


def _lines(verdict: Verdict) -> Iterable[str]:
    yield f"process {verdict.pid}, {verdict.writer}: {verdict.state}"
    yield f"  {_sum([verdict])}"
    for dropped in verdict.dropped:
        yield f"  dropped: {dropped.total:,} {dropped.reason}, the last at {utc(dropped.last_ns)}"
    if verdict.damaged_segments:
        damaged = counted(verdict.damaged_segments, "damaged segment")
        yield f"  {damaged}: the number of observations lost with them is unknown"
    if verdict.retired:
        files = ", ".join(f"{count:,} {prefix}" for prefix, count in verdict.retired.items())
        yield f"  retention removed of its files: {files}"
    if verdict.retired_files:
        yield f"  its own retention removed {counted(verdict.retired_files, 'file')} of any process"
    if not verdict.is_accounted_for:
        yield f"  GONE, and no account says why: {_unaccounted([verdict])} observations"
    for problem in verdict.problems:
        yield f"  NOT EXPLAINED: {problem}"


def _sum(verdicts: Sequence[Verdict]) -> str:
    def total(name: str) -> int:
        return sum(getattr(verdict, name) for verdict in verdicts)

    dropped = sum(dropped.total for verdict in verdicts for dropped in verdict.dropped)
    parts = {
        "in the journal": f"{total('in_journal'):,}",
        "in files that retention removed": f"{total('removed') - total('unaccounted'):,}",
        "in files that are gone without an account": _unaccounted(verdicts),
        "torn or unreadable": f"{total('torn') + total('unreadable'):,}",
    }
    shown = "".join(f", {number} {what}" for what, number in parts.items() if number != "0")
    rows = counted(total("rows"), "row")
    return f"{total('accepted'):,} accepted: {rows}{shown}; {dropped:,} dropped"


def _unaccounted(verdicts: Sequence[Verdict]) -> str:
    total = sum(verdict.unaccounted for verdict in verdicts)
    is_exact = all(verdict.is_removed_exact for verdict in verdicts)
    return f"{total:,}" if is_exact else f"at least {total:,}"
