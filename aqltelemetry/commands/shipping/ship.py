"""`aqltelemetry ship`: carries published files to another store, each file once."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from aqltelemetry.commands.options import (
    EXIT_INCOMPLETE,
    IncompleteError,
    Time,
    complete_directory,
    takes_directories,
)
from aqltelemetry.commands.shipping import output
from aqltelemetry.commands.shipping.status import status
from aqltelemetry.errors import LedgerBusyError, TelemetryError
from aqltelemetry.shipping.destination import Unavailable
from aqltelemetry.shipping.run import Job, compare, run
from aqltelemetry.shipping.shipper import GaveUp, Surroundings
from aqltelemetry.shipping.target import Origin, Target

EXIT_BUSY = 4
"""Exit status if another process ships to the same destination already."""
_ATTEMPTS = 8
_VARIABLE = "AQLTELEMETRY_SHIP_TO"
_STATUS = "status"


class _WithStatus(click.Command):
    """The command, or `status` if that is the first word after it."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args[:1] == [_STATUS]:
            return status.make_context(f"{info_name} {_STATUS}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        left = super().parse_args(ctx, args)
        if _STATUS in ctx.params["directories"] and not ctx.resilient_parsing:
            where = f"write `{ctx.command_path} {_STATUS}` first, or ./{_STATUS} for a directory"
            raise click.UsageError(f"{_STATUS} has to follow at once: {where}", ctx)
        return left


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a directory, and `status` as the first word."""
    found = complete_directory(context, parameter, incomplete)
    is_first = not context.params.get("directories")
    if is_first and _STATUS.startswith(incomplete):
        found.append(CompletionItem(_STATUS, help="Say what is shipped, behind and refused."))
    return found


@click.command(cls=_WithStatus)
@partial(takes_directories, complete=_complete)
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
    type=Time(),
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
@click.option(
    "--host",
    envvar="AQLTELEMETRY_SHIP_HOST",
    metavar="NAME",
    help="Host of the rows.  [default: this host's name]",
)
@click.option(
    "--service",
    envvar="AQLTELEMETRY_SHIP_SERVICE",
    default="",
    metavar="NAME",
    help="Service of the rows.",
)
@click.option(
    "--instance",
    envvar="AQLTELEMETRY_SHIP_INSTANCE",
    default="",
    metavar="NAME",
    help="Instance of the service.",
)
@click.option(
    "--retention-days",
    type=click.IntRange(1),
    metavar="DAYS",
    help="Let the destination remove rows that are older, where it can.",
)
@click.option(
    "--delete-after",
    "delete_after_s",
    type=Time(),
    metavar="TIME",
    help="Remove files here this long after they were shipped, such as 1d.",
)
@click.option(
    "--retry-refused",
    "retries_refused",
    is_flag=True,
    help="Send the files again that the destination has refused.",
)
@click.option(
    "--check", "checks", is_flag=True, help="Compare the destination with the files; ship nothing."
)
@click.option("--dry-run", is_flag=True, help="Say what would be shipped; connect to nothing.")
@click.pass_context
def ship(context: click.Context, /, *, directories: Sequence[Path], **chosen: Any) -> None:
    """Ship published files to another store, each once.

    "ship status [DIR]..." says what is shipped, behind and refused.

    A file is shipped as soon as it is published, and counts as shipped once the
    destination has stored it. Kill this command at any time: the next one continues.
    The recorded processes are not involved.

    A password or token in URL must not be on the command line, where other users
    can see it: use the environment variable or --credentials.

    \b
    Exit status:
      0  all files that were there are shipped, or it ended by a signal
      1  the destination or the ledger can't be used as it is, or --check
         has found a difference
      3  the destination could not be reached, or has refused files, or could
         not be asked by --check
      4  another process ships to the same destination already
    """  # noqa: D301 - click's mark for lines that are not to be filled
    choice = _Choice(**chosen)
    if choice.checks and choice.dry_run:
        raise click.UsageError("--check and --dry-run exclude each other")
    names = [str(each) for each in directories]
    with _errors("--to"):
        target = _target(context, choice)
    job = Job(
        names,
        target,
        choice.state,
        None if choice.once else choice.interval_s,
        choice.delete_after_s,
        choice.retries_refused,
    )
    if choice.dry_run:
        _end(context, output.dry_run_lines(job), 0)
    with _errors(target):
        if choice.checks:
            lines, status = output.check_lines(compare(job))
            _end(context, lines, status)
        with ExitStack() as stack:
            done = run(job, _surroundings(stack, _ATTEMPTS if choice.once else None))
    _end(context, [output.summary(done, target)], EXIT_INCOMPLETE if done.refused else 0)


def _end(context: click.Context, lines: Iterable[str], status: int) -> NoReturn:
    for line in lines:
        click.echo(line)
    context.exit(status)


@contextmanager
def _errors(target: object) -> Iterator[None]:
    """Convert errors of shipping into those of a command."""
    try:
        yield
    except LedgerBusyError as exc:
        raise _BusyError(str(exc)) from exc
    except (GaveUp, Unavailable) as exc:
        reason = str(exc).removeprefix(f"{target}: ")
        raise IncompleteError(f"{target} can't be reached: {reason}") from exc
    except (TelemetryError, ImportError) as exc:  # a package may be missing
        raise click.ClickException(str(exc)) from exc


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
    delete_after_s: float | None
    retries_refused: bool
    checks: bool
    dry_run: bool


class _BusyError(click.ClickException):
    exit_code = EXIT_BUSY


def _target(context: click.Context, choice: _Choice) -> Target:
    if not choice.url:
        raise click.UsageError(f"give --to, or set {_VARIABLE}")
    host = socket.gethostname() if choice.host is None else choice.host
    origin = Origin(host, choice.service, choice.instance)
    target = Target(choice.url, origin, choice.retention_days)
    _ = target.parts  # which raises an error if it is no URL
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


def _surroundings(stack: ExitStack, attempts: int | None) -> Surroundings:
    """Return surroundings that report on stderr, and show a bar if it is a terminal."""

    def report(line: str) -> None:
        click.echo(line, err=True)

    if not sys.stderr.isatty():
        return Surroundings(report=report, attempts=attempts)
    bar = _Bar(stack, is_once=attempts is not None)
    return Surroundings(report=report, begin=bar.begin, advance=bar.advance, attempts=attempts)


class _Bar:
    """A bar for what is there at first; a shipper that follows shows no other."""

    def __init__(self, stack: ExitStack, *, is_once: bool) -> None:
        self._stack = stack
        self._is_once = is_once
        self._bar: Any = None

    def begin(self, size_bytes: int) -> None:
        if self._bar is None:
            bar = click.progressbar(length=size_bytes, label="shipping", file=sys.stderr)
            self._bar = self._stack.enter_context(bar)
        elif self._is_once:  # more files than are listed at a time
            self._bar.length += size_bytes

    def advance(self, size_bytes: int) -> None:
        if self._bar is None:  # of a shipment that an earlier process has left
            return
        if self._is_once or not self._bar.finished:
            self._bar.update(size_bytes)
            if self._bar.finished and not self._is_once:
                self._stack.close()
