"""`aqltelemetry recover`: publishes what killed processes left in the journal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from aqltelemetry.audit import recover as audit
from aqltelemetry.audit import unpublished
from aqltelemetry.audit.recover import Recovered
from aqltelemetry.commands.options import (
    IncompleteError,
    checked_settings,
    journal_roots,
    takes_existing_directory,
    takes_journal_dir,
)
from aqltelemetry.journal.dead_writers import BAD_SUFFIX
from aqltelemetry.journal.inventory import take_inventory
from aqltelemetry.quantities import counted, processes
from aqltelemetry.settings import Settings
from aqltelemetry.system.clock import pause

_WAIT_S = 1.0


@click.command()
@takes_existing_directory
@takes_journal_dir
@click.option("--dry-run", is_flag=True, help="Say what there is to recover, and change nothing.")
@click.option("--wait", is_flag=True, help="Continue until no process records into DIR any more.")
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

    A running process that records into DIR does this too, and so does the next one
    that starts; use this command if there is none. It uses half of a processor. You
    can run it at any time, several times, and kill it.

    \b
    Exit status:
      0  everything is published
      3  something is not: it can't be published now and stays in the
         journal, or it is damaged and set aside there
    """  # noqa: D301 - click's mark for lines that are not to be filled
    _become_owner(directory, as_owner=as_owner)
    chosen, roots = checked_settings(directory, journal_dir), journal_roots(directory, journal_dir)
    try:
        segments, alive = _count(roots)
        text = f"{counted(segments, 'segment')} of killed processes"
        if dry_run:
            left = counted(unpublished.count_in(roots).of_killed, "observation")
            click.echo(f"{text}, with {left}")
            click.echo(processes(alive, "recording"))
            return
        click.echo(text)
        done = _recover(chosen, roots, segments)
        if wait and alive:
            click.echo(f"waiting for the end of {processes(alive, 'recording')}")
        while wait:
            # Counted first: a process that ends meanwhile is recovered now or in the next round.
            wait = bool(_count(roots)[1])
            more = _recover(chosen, roots, 0)
            done.observations += more.observations
            done.damaged += more.damaged
            done.autopsies += more.autopsies
            pause(_WAIT_S if wait else 0)
    except OSError as exc:
        raise IncompleteError(f"not everything is recovered: {exc}") from exc
    click.echo(f"recovered {counted(done.observations, 'observation')}")
    if done.autopsies:
        autopsies = counted(done.autopsies, "autopsy", "autopsies")
        click.echo(f"published {autopsies}: see aqltelemetry autopsy")
    if done.damaged:
        damaged = counted(done.damaged, "damaged segment")
        raise IncompleteError(f"{damaged} set aside, as *{BAD_SUFFIX} in the journal")


def _recover(chosen: Settings, roots: Sequence[Path], segments: int) -> Recovered:
    if not segments:
        return asyncio.run(audit.recover(chosen, roots))
    with click.progressbar(length=segments, label="segments", file=sys.stderr) as bar:
        return asyncio.run(audit.recover(chosen, roots, bar.update))


def _count(roots: Sequence[Path]) -> tuple[int, int]:
    """Return the number of segments of dead writers and of living writers; read no segment."""
    found = take_inventory(roots)
    return sum(each.segments for each in found.dead), sum(each.is_alive for each in found.writers)


def _become_owner(directory: Path, *, as_owner: bool) -> None:
    """Make sure that the user of this process owns the directory, and so the files in it."""
    owner = os.stat(directory)
    if owner.st_uid == os.geteuid():
        return
    if not as_owner or os.geteuid() != 0:
        rule = "run this as that user, or as root with --as-owner"
        raise click.ClickException(f"{directory} belongs to user {owner.st_uid}: {rule}")
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
