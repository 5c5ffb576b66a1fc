"""`aqltelemetry doctor`: what is recorded, what is not, and why."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from aqltelemetry.diagnosis import Finding, examine, examine_environment, examine_process

_WIDTH = 12


@click.command()
@click.argument("directory", metavar="[DIR]", required=False)
@click.option("--pid", metavar="N", type=click.IntRange(1), help="Of a process.")
@click.pass_context
def doctor(context: click.Context, directory: str | None, pid: int | None) -> None:
    """Find out what is recorded into DIR, or of a process; what is not, and why.

    Marks with ! what recording suffers from, and then exits with 1.
    """
    if (directory is None) == (pid is None):
        raise click.UsageError("give either a directory or --pid")
    try:
        found = examine(directory or "", os.environ) if pid is None else examine_process(pid)
        is_faulty = _show(found)
    except (FileNotFoundError, ProcessLookupError):
        raise click.ClickException(f"there is no process {pid}") from None
    except PermissionError as exc:
        if pid is None:
            raise click.ClickException(f"{directory}: {exc.strerror}") from exc
        raise click.ClickException(
            f"process {pid} is another user's: ask as that user, or as root"
        ) from None
    _show(examine_environment())
    context.exit(is_faulty)


def _show(findings: Iterable[Finding]) -> bool:
    is_faulty = False
    for finding in findings:
        mark = "!" if finding.is_fault else " "
        click.echo(f"{mark} {finding.matter:{_WIDTH}} {finding.text}")
        is_faulty = is_faulty or finding.is_fault
    return is_faulty
