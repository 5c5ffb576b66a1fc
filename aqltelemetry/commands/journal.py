"""The commands that look after the journal: `verify` and `recover`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from aqltelemetry.audit.evidence import look_into
from aqltelemetry.audit.recover import Recovered, Recoverer
from aqltelemetry.audit.verify import Verdict
from aqltelemetry.commands.options import IncompleteError, takes_existing_directory
from aqltelemetry.errors import TelemetryError
from aqltelemetry.journal.dead_writers import BAD_SUFFIX
from aqltelemetry.journal.inventory import census
from aqltelemetry.journal.location import all_roots
from aqltelemetry.quantities import counted, processes
from aqltelemetry.settings import Settings, settings
from aqltelemetry.system.clock import pause, utc

_WAIT_S = 1.0
_SHARE = 0.5

_journal_dir = click.option(
    "--journal-dir",
    metavar="PATH",
    help="Where the journal is, if the recording was told so.",
)


@click.command()
@takes_existing_directory
@_journal_dir
@click.option("-q", "--quiet", is_flag=True, help="Only the sum, and what can't be explained.")
@click.option(
    "--readers-delete",
    is_flag=True,
    help="Accept files that are gone without an account: readers delete them here.",
)
def verify(directory: Path, journal_dir: str | None, *, quiet: bool, readers_delete: bool) -> None:
    """Prove that nothing is lost, and nothing there twice.

    Holds the rows of each recording process against its accounts: each observation
    that was accepted is in a file once, in the journal, in a file that retention
    removed, or was dropped and counted. May be run while processes record.

    Ends with 0 if that is proved; with 1 if something is missing from a file, there
    twice, damaged or without its end; with 3 if whole files are gone and no account
    says that retention removed them. Someone deleted them then, or they were lost.
    """
    from aqltelemetry.audit import verify  # noqa: PLC0415 - what other commands don't need

    try:
        verdicts = verify.verify(directory, _roots(directory, journal_dir))
    except OSError as exc:
        raise click.ClickException(f"not all can be read: {exc}") from exc
    if not verdicts:
        click.echo(f"{directory}: nothing is recorded there")
        return
    for verdict in verdicts:
        if not quiet or verdict.problems:
            for line in _lines(verdict):
                click.echo(line)
    problems = sum(len(verdict.problems) for verdict in verdicts)
    click.echo(f"{counted(len(verdicts), 'recording')}: {_sum(verdicts)}")
    if problems:
        raise click.ClickException(f"{counted(problems, 'finding')} can't be explained")
    if not all(verdict.is_accounted_for for verdict in verdicts) and not readers_delete:
        raise _GoneError(verdicts)
    click.echo("all is explained")


class _GoneError(click.ClickException):
    """Raised where files are gone that no account explains."""

    exit_code = 3

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        lines = ["files are gone, and no account says that retention removed them"]
        retired = max(verdict.retired_files for verdict in verdicts)
        if retired and not any(verdict.retired for verdict in verdicts):
            lines.append(
                f"an account of an earlier version counts {retired:,} files that retention "
                "removed, and does not say which: how many are among these is unknown"
            )
        lines.append("if readers delete files here: --readers-delete")
        super().__init__("\n".join(lines))


@click.command()
@takes_existing_directory
@_journal_dir
@click.option("--dry-run", is_flag=True, help="Only say what there is to recover.")
@click.option("--wait", is_flag=True, help="Go on until no process records into DIR any more.")
@click.option("--as-owner", is_flag=True, help="As root: become the user that DIR belongs to.")
def recover(
    directory: Path,
    journal_dir: str | None,
    *,
    dry_run: bool,
    wait: bool,
    as_owner: bool,
) -> None:
    """Publish what killed processes left in the journal.

    Running processes do that by themselves, and so does the next start: this is for
    when there is none. Takes half of a processor at most. May be run at any time, more
    than once, and be killed.
    """
    # Before it may be another user, who need not be able to read these.
    from aqltelemetry.audit.recover import recoverer as recoverer_of  # noqa: PLC0415 - of this one only

    _become_owner(directory, as_owner=as_owner)
    chosen, roots = _settings(directory, journal_dir), _roots(directory, journal_dir)
    try:
        if dry_run:
            segments, observations, alive = _left(roots)
            held = counted(observations, "observation")
            click.echo(f"{counted(segments, 'segment')} of killed processes, with {held}")
            click.echo(processes(alive, "recording"))
            return
        segments, alive = _count(roots)
        click.echo(f"{counted(segments, 'segment')} of killed processes")
        done = asyncio.run(_recover(recoverer_of, chosen, roots, segments))
        if wait and alive:
            click.echo(f"waiting for the end of {processes(alive, 'recording')}")
        while wait:
            # Asked before: what ends meanwhile has its turn in this round or the next.
            wait = bool(_count(roots)[1])
            more = asyncio.run(_recover(recoverer_of, chosen, roots, 0))
            done.observations += more.observations
            done.damaged += more.damaged
            pause(_WAIT_S if wait else 0)
    except OSError as exc:
        raise IncompleteError(f"not all is recovered: {exc}") from exc
    click.echo(f"recovered {counted(done.observations, 'observation')}")
    if done.damaged:
        damaged = counted(done.damaged, "damaged segment")
        click.echo(f"{damaged} set aside, *{BAD_SUFFIX} in the journal")


async def _recover(
    recoverer_of: Callable[[Settings, Sequence[Path], float], Recoverer],
    chosen: Settings,
    roots: Sequence[Path],
    segments: int,
) -> Recovered:
    recoverer = recoverer_of(chosen, roots, _SHARE)
    try:
        if not segments:  # a bar of nothing, again and again
            return await recoverer.run(lambda _: None)
        with click.progressbar(length=segments, label="segments", file=sys.stderr) as bar:
            return await recoverer.run(bar.update)
    finally:
        await recoverer.close()


def _count(roots: Sequence[Path]) -> tuple[int, int]:
    """Count the segments that dead processes left, and the living processes; read none."""
    found = census(roots)
    return sum(each.segments for each in found.dead), sum(each.is_alive for each in found.residents)


def _left(roots: Sequence[Path]) -> tuple[int, int, int]:
    """Count segments and observations that dead processes left, and the living ones."""
    found = look_into(roots).values()
    dead = [told for each in found if not each.is_alive for told in each.journal.values()]
    observations = sum(told.accepted for told in dead if told is not None)
    return len(dead), observations, sum(each.is_alive for each in found)


def _become_owner(directory: Path, *, as_owner: bool) -> None:
    """See that files are made by the user whose they are to be."""
    owner = os.stat(directory)
    if owner.st_uid == os.geteuid():
        return
    if not as_owner or os.geteuid() != 0:
        rule = "run this as that user, or as root with --as-owner"
        raise click.ClickException(f"{directory} belongs to user {owner.st_uid}: {rule}")
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def _settings(directory: Path, journal_dir: str | None) -> Settings:
    try:
        return settings(directory, {} if journal_dir is None else {"journal_dir": journal_dir})
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc


def _roots(directory: Path, journal_dir: str | None) -> Sequence[Path]:
    chosen = _settings(directory, journal_dir)
    # A directory of another user has its journal under that user's name.
    return all_roots(chosen.directory, chosen.journal_dir, uid=os.stat(directory).st_uid)


def _lines(verdict: Verdict) -> Iterable[str]:
    yield f"process {verdict.pid}, {verdict.writer}: {verdict.state}"
    yield f"  {_sum([verdict])}"
    for dropped in verdict.dropped:
        yield f"  dropped: {dropped.total:,} {dropped.reason}, the last at {utc(dropped.last_ns)}"
    if verdict.damaged_segments:
        damaged = counted(verdict.damaged_segments, "damaged segment")
        yield f"  {damaged}: how many observations were lost with them is not known"
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
    return (
        f"{total('accepted'):,} accepted: {total('rows'):,} rows, "
        f"{total('in_journal'):,} in the journal, "
        f"{total('removed') - total('unaccounted'):,} in files that retention removed, "
        f"{_unaccounted(verdicts)} in files that are gone without an account, "
        f"{total('torn') + total('unreadable'):,} torn or unreadable; {dropped:,} dropped"
    )


def _unaccounted(verdicts: Sequence[Verdict]) -> str:
    total = sum(verdict.unaccounted for verdict in verdicts)
    is_exact = all(verdict.is_removed_exact for verdict in verdicts)
    return f"{total:,}" if is_exact else f"at least {total:,}"
