"""`aqltelemetry doctor`: finds out what is recorded, what is not, and why."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from aqltelemetry.audit.diagnose import Finding, examine, examine_environment, examine_process
from aqltelemetry.commands.options import no_access, no_process, takes_directory
from aqltelemetry.settings import default_directory

_WIDTH = 12


@click.command()
@takes_directory
@click.option("--pid", metavar="N", type=click.IntRange(1), help="Examine a process instead.")
@click.pass_context
def doctor(context: click.Context, directory: str | None, pid: int | None) -> None:
    """Find out what is recorded, what is not, and why.

    Examines DIR, or, with --pid, a process and the directory that it records into.
    Problems are marked with !; the exit status is then 1.
    """
    if directory is not None and pid is not None:
        raise click.UsageError("give either DIR or --pid")
    directory = directory or default_directory()
    try:
        found = examine(directory, os.environ) if pid is None else examine_process(pid)
        is_faulty = _show(found)
    except (FileNotFoundError, ProcessLookupError, PermissionError) as exc:
        if pid is None:
            raise click.ClickException(f"{directory}: {exc.strerror}") from exc
        is_refused = isinstance(exc, PermissionError)
        raise (no_access(pid) if is_refused else no_process(pid)) from None
    _show(examine_environment())
    context.exit(is_faulty)


def _show(findings: Iterable[Finding]) -> bool:
    is_faulty = False
    for finding in findings:
        mark = "!" if finding.is_fault else " "
        click.echo(f"{mark} {finding.matter:{_WIDTH}} {finding.text}")
        is_faulty = is_faulty or finding.is_fault
    return is_faulty
