"""`aqltelemetry demo`: records a real service under load, and reports on it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import click

from aqltelemetry.commands.options import missing_extra, takes_directory
from aqltelemetry.commands.report import report
from aqltelemetry.quantities import counted
from aqltelemetry.settings import default_directory
from aqltelemetry.system.clock import epoch_ns

_PAGE = "report.html"


@click.command()
@takes_directory
@click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Worker processes of the service.",
)
@click.option(
    "--requests",
    default=4000,
    show_default=True,
    type=click.IntRange(1),
    help="Requests to send.",
)
@click.option(
    "--connections",
    default=16,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Requests in progress at the same time.",
)
def demo(directory: str | None, workers: int, requests: int, connections: int) -> None:
    """Record a real service under load, and report on it.

    Starts an aiohttp service on uvloop under Gunicorn, sends requests to it, stops
    it, prints a report of the recording, and writes it as a page into DIR, too. The
    service has a fault, which the report finds. Earlier recordings in DIR are kept.
    It takes some seconds.
    """
    try:
        from aqltelemetry.demo.drive import DemoError, run  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise missing_extra("demo", exc) from exc
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
    page = path / _PAGE
    context = click.get_current_context()
    context.invoke(report, directories=[str(path)], since=since, html=str(page))
    click.echo(_next_steps(path, page))


def _next_steps(directory: Path, page: Path) -> str:
    """Return the commands to try after the demo, as they are typed in this directory."""
    program = "aqltelemetry"
    called = Path(sys.argv[0])
    if called.name == program and shutil.which(program) != str(called.absolute()):
        program = os.path.relpath(called)
    shown = shlex.quote(str(directory))
    steps = {
        f"{program} report {shown} --sort p99": "see which routes are slow",
        f"{program} verify {shown}": "prove that no observation is missing",
        f"{program} run -- COMMAND": "record a service of your own",
    }
    width = max(map(len, steps))
    lines = (f"  {command:{width}}  # {purpose}" for command, purpose in steps.items())
    return "\n".join(("", f"the same with charts, for a browser: {page}", "", "try next:", *lines))
