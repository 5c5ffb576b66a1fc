"""`aqltelemetry ship`: carries published files to another store, each file once."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import click
from click.core import ParameterSource

from aqltelemetry.commands.options import EXIT_INCOMPLETE, IncompleteError, takes_directories
from aqltelemetry.errors import LedgerBusyError, TelemetryError
from aqltelemetry.quantities import counted, mebibytes, parse_seconds
from aqltelemetry.shipping.run import Job, run
from aqltelemetry.shipping.shipper import GaveUp, Progress, Surroundings
from aqltelemetry.shipping.target import Origin, Target

EXIT_BUSY = 4
"""Exit status if another process ships to the same destination already."""
_ATTEMPTS = 8
_VARIABLE = "AQLTELEMETRY_SHIP_TO"


class _Seconds(click.ParamType[float]):
    """A time in seconds, as a number or such as `30m`."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = parse_seconds(value)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            self.fail(f"{value!r} is not a time above 0, such as 5s, 30m or 1d", param, ctx)
        return seconds


@click.command()
@takes_directories
@click.option(
    "--to",
    "url",
    envvar=_VARIABLE,
    metavar="URL",
    help=f"Where to ship to.  [default: {_VARIABLE}]",
)
@click.option(
    "--credentials",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with USER:PASSWORD, or with a token, on its only line.",
)
@click.option(
    "--once/--follow",
    default=True,
    show_default=True,
    help="Ship what is there and end, or continue with what is published later.",
)
@click.option(
    "--interval",
    "interval_s",
    type=_Seconds(),
    default="5s",
    show_default=True,
    metavar="TIME",
    help="With --follow: time between two searches for new files.",
)
@click.option(
    "--state",
    metavar="PATH",
    type=click.Path(file_okay=False),
    help="Directory of the ledger.  [default: .ship in the first DIR]",
)
@click.option("--host", metavar="NAME", help="Host of the rows.  [default: this host's name]")
@click.option("--service", default="", metavar="NAME", help="Service of the rows.")
@click.option("--instance", default="", metavar="NAME", help="Instance of the service.")
@click.option(
    "--retention-days",
    type=click.IntRange(1),
    metavar="DAYS",
    help="Let the destination remove rows that are older, where it can.",
)
@click.pass_context
def ship(context: click.Context, /, *, directories: Sequence[Path], **chosen: Any) -> None:
    """Ship published files to another store, each once.

    A file is shipped as soon as it is published, and counts as shipped once the
    destination has stored it. Kill this command at any time: the next one continues.
    The recorded processes are not involved.

    A password or token in URL must not be on the command line, where other users
    can see it: use the environment variable or --credentials.

    \b
    Exit status:
      0  all files that were there are shipped, or it ended by a signal
      1  the destination or the ledger can't be used as it is
      3  the destination could not be reached, or has refused files
      4  another process ships to the same destination already
    """  # noqa: D301 - click's mark for lines that are not to be filled
    choice = _Choice(**chosen)
    target = _target(context, choice)
    job = Job(
        [str(each) for each in directories],
        target,
        choice.state,
        None if choice.once else choice.interval_s,
        _ATTEMPTS if choice.once else None,
    )
    try:
        with ExitStack() as stack:
            done = run(job, _surroundings(stack))
    except LedgerBusyError as exc:
        raise _BusyError(str(exc)) from exc
    except GaveUp as exc:
        raise IncompleteError(f"{target} can't be reached: {exc}") from exc
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(_summary(done, target))
    if done.refused:
        context.exit(EXIT_INCOMPLETE)


class _Choice(NamedTuple):
    """The values of the options."""

    url: str | None
    credentials: Path | None
    once: bool
    interval_s: float
    state: str | None
    host: str | None
    service: str
    instance: str
    retention_days: int | None


class _BusyError(click.ClickException):
    exit_code = EXIT_BUSY


def _target(context: click.Context, choice: _Choice) -> Target:
    if not choice.url:
        raise click.UsageError(f"give --to, or set {_VARIABLE}")
    host = socket.gethostname() if choice.host is None else choice.host
    origin = Origin(host, choice.service, choice.instance)
    target = Target(choice.url, origin, choice.retention_days)
    is_visible = context.get_parameter_source("url") is ParameterSource.COMMANDLINE
    if is_visible and target.has_secret:
        rule = f"other users can see a command line: use {_VARIABLE} or --credentials"
        raise click.UsageError(f"--to must not contain a password, token or key; {rule}")
    if choice.credentials is None:
        return target
    return Target(_with_credentials(target, choice.credentials), origin, choice.retention_days)


def _with_credentials(target: Target, path: Path) -> str:
    """Return the URL with the user and password, or the token, of a file."""
    lines = path.read_text().splitlines()
    if len(lines) != 1 or not lines[0]:
        raise click.UsageError(f"--credentials: {path} must have one line: USER:PASSWORD, or TOKEN")
    user, colon, password = lines[0].partition(":")
    if not colon:
        user, password = target.parts.username or "", user
    place = target.parts.netloc.rpartition("@")[2]
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{place}"
    return target.parts._replace(netloc=netloc).geturl()


def _surroundings(stack: ExitStack) -> Surroundings:
    """Return surroundings that report on stderr, and show a bar if it is a terminal."""
    bar: Any = None

    def begin(size_bytes: int) -> None:
        nonlocal bar
        bar = stack.enter_context(
            click.progressbar(length=size_bytes, label="bytes", file=sys.stderr)
        )

    def advance(size_bytes: int) -> None:
        if bar is not None:
            bar.update(size_bytes)

    def report(line: str) -> None:
        click.echo(line, err=True)

    if sys.stderr.isatty():
        return Surroundings(report=report, begin=begin, advance=advance)
    return Surroundings(report=report)


def _summary(done: Progress, target: Target) -> str:
    text = (
        f"shipped {counted(done.files, 'file')}, {counted(done.rows, 'row')}, "
        f"{mebibytes(done.bytes)} MiB to {target}"
    )
    others = ((done.refused, "refused"), (done.gone, "removed before they were shipped"))
    return text + "".join(f"; {number:,} {what}" for number, what in others if number)
