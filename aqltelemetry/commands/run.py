"""`aqltelemetry run`: records the Python processes of a command without changing their code."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from aqltelemetry.audit import published
from aqltelemetry.audit.recover import recover
from aqltelemetry.commands import launch
from aqltelemetry.commands.descendants import Descendants, unrecorded, with_notes
from aqltelemetry.errors import CommandError, OptionError, TelemetryError
from aqltelemetry.journal.exit_note import note_exit
from aqltelemetry.journal.inventory import take_inventory
from aqltelemetry.journal.location import all_roots
from aqltelemetry.quantities import bytes_text, counted, processes, seconds_text
from aqltelemetry.runtime.assembly import check_directory
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.settings import TEXT_OPTIONS, Settings, settings, variables
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks import file_names

_SIGNAL_BASE = 128


def _checked_template(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    module, _colon, function = (name or "a:b").partition(":")
    if module and function:
        return name
    raise click.BadParameter("must be the name of a function, as module:function")


def _telemetry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option to a command for each option of a recording, except its directory."""
    for name, option in reversed(list(TEXT_OPTIONS.items())):
        if name != "directory":
            text = f"{option.help}  [default: {option.default_text}]"
            command = click.option(option.flag, name, metavar=option.metavar, help=text)(command)
    return command


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Every option of the recording is also an environment variable: AQLTELEMETRY_DIR, "
    "AQLTELEMETRY_INTERVAL_S and so on.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    help="Directory to record into.  [default: AQLTELEMETRY_DIR, or _monitoring]",
)
@click.option(
    "--template",
    metavar="MODULE:FUNCTION",
    help="Function that returns the route template of a request.",
    callback=_checked_template,
)
@click.option("--strict", is_flag=True, help="Do not run COMMAND if it can't be recorded.")
@_telemetry_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context,
    /,
    directory: str | None,
    command: Sequence[str],
    *,
    strict: bool,
    **given: str | None,
) -> None:
    """Run COMMAND and record the Python processes below it.

    \b
    aqltelemetry run -- gunicorn app:app --workers 4
    aqltelemetry run --dir /var/lib/app/monitoring -- uvicorn app:app --workers 4

    Requests of aiohttp, Bottle, Django, Falcon, FastAPI, Flask, Litestar, Pyramid,
    Quart, Starlette and (over ASGI) Sanic are recorded on any server; requests of
    other applications are recorded under Gunicorn and uvicorn. A program that serves
    no requests is recorded if it is the first Python process of COMMAND, if it
    imports aqltelemetry, or if it is a worker of Celery, RQ and the like.

    If COMMAND can't be recorded, it runs unrecorded, unless --strict is given.
    Signals and the exit code pass through.
    """  # noqa: D301 - click's mark for lines that are not to be filled
    options = {name: text for name, text in given.items() if text is not None}
    if Target(options.get("ship_to", "")).has_secret:
        rule = "other users can see a command line: use AQLTELEMETRY_SHIP_TO"
        raise click.UsageError(f"--ship-to must not contain a password, token or key; {rule}")
    try:
        environ, chosen = _prepare(directory, options, strict=strict)
    except OptionError as exc:
        raise click.UsageError(_as_given(exc, options)) from exc
    except (TelemetryError, OSError) as exc:
        if strict:
            raise click.UsageError(str(exc)) from exc
        _say(f"{shlex.join(command)} runs unrecorded: {exc}")
        code = _launch(context, command, os.environ)
        _say(f"{shlex.join(command)} ran unrecorded: {exc}")
        context.exit(launch.end_as(code))
    _say(f"recording into {chosen.directory} ({_limits(chosen)}): {shlex.join(command)}")
    if ControlFiles(chosen.directory).is_off():
        _say(f"recordings there are switched off: aqltelemetry on {_shown(chosen)}")
    notes, below = launch.Notes(), Descendants("AQLTELEMETRY_RUN")
    child = 0

    def look(pid: int) -> None:
        nonlocal child
        child = pid
        below.look(pid)

    code = _launch(context, command, {**environ, **notes.variables}, chosen, look)
    if code:
        with suppress(OSError):
            roots = all_roots(chosen.directory, chosen.journal_dir)
            note_exit(roots, child, code, "aqltelemetry run")
    _settle(chosen)
    found = _Found(chosen, notes, below)
    _say(found.summary(code))
    if missing := found.unrecorded():
        _say(missing)
    context.exit(launch.end_as(code))


def _prepare(
    directory: str | None, options: Mapping[str, str], *, strict: bool
) -> tuple[dict[str, str], Settings]:
    """Return the environment of the command, and the settings of its recordings.

    A wrong value in the environment is reported and left out; if `strict`, it raises
    OptionError, as a wrong option does. Raises MonitoringDirectoryError.
    """
    settings(directory, {k: v for k, v in options.items() if k != "template"}, environ={})
    environ = launch.environment("", options, os.environ)
    given = {*variables(options)}
    del environ["AQLTELEMETRY_DIR"]
    while True:
        try:
            chosen = settings(directory or os.environ.get("AQLTELEMETRY_DIR"), environ=environ)
        except OptionError as exc:
            if strict or exc.option in given or exc.option not in environ:
                raise
            _say(f"{exc}; the default is used")
            del environ[exc.option]
        else:
            break
    check_directory(chosen.directory)
    environ["AQLTELEMETRY_DIR"] = chosen.directory
    return environ, chosen


def _launch(
    context: click.Context,
    command: Sequence[str],
    environ: Mapping[str, str],
    chosen: Settings | None = None,
    look: Callable[[int], object] | None = None,
) -> int:
    try:
        return launch.run(command, environ, look)
    except CommandError as exc:
        _say(str(exc))
        if chosen is not None:
            with suppress(OSError):  # it is not empty
                os.rmdir(chosen.directory)
        context.exit(exc.exit_code)


def _as_given(exc: OptionError, options: Mapping[str, str]) -> str:
    """Describe a wrong value under the name that gave it."""
    if exc.option in options:
        return f"--{exc.option.replace('_', '-')} {exc.value}: {exc.rule}"
    return str(exc)


def _say(text: str) -> None:
    # The standard output belongs to the command.
    click.echo(f"aqltelemetry: {text}", err=True)


def _limits(chosen: Settings) -> str:
    return (
        f"keeping {bytes_text(chosen.keep_bytes)} or {seconds_text(chosen.keep_s)}, "
        f"journal at most {bytes_text(chosen.journal_bytes)} a process"
    )


def _settle(chosen: Settings) -> None:
    """Publish what ended processes left, since there may be no other process to do it."""
    roots = all_roots(chosen.directory, chosen.journal_dir)
    try:
        # One that published all it recorded may have left what an autopsy needs.
        if any(not each.is_alive for each in take_inventory(roots).writers):
            asyncio.run(recover(chosen, roots))
    except (TelemetryError, OSError) as exc:
        _say(f"what killed processes left could not be published: {exc}")


def _shown(chosen: Settings) -> str:
    return shlex.quote(os.path.relpath(chosen.directory))


class _Found:
    """The recordings of the processes below this run, and the processes that did not record."""

    def __init__(self, chosen: Settings, notes: launch.Notes, below: Descendants) -> None:
        self._chosen = chosen
        self._run = notes.run
        self._processes = with_notes(below.seen, notes.read())

    def summary(self, code: int) -> str:
        """Return a line about the published observations."""
        chosen = self._chosen
        found = published.count(chosen.directory, self._names())
        if not found.files:
            return f"no observations: {_why(chosen, code)}"
        rows = ", ".join(f"{count:,} {prefix}" for prefix, count in sorted(found.rows.items()))
        return (
            f"published: {counted(found.rows.total(), 'observation')} ({rows}) of "
            f"{processes(len({pid for pid, _ in found.processes}))}, "
            f"{found.dropped:,} dropped, in {counted(found.files, 'file')}: "
            f"aqltelemetry report {_shown(chosen)}"
        )

    def unrecorded(self) -> str:
        """Return a line about the processes that were not recorded; empty if there are none."""
        parsed = (file_names.parse(name) for name in self._names())
        pids = {each.pid for each in parsed if each is not None}
        with suppress(OSError):
            residents = take_inventory(all_roots(self._chosen.directory, self._chosen.journal_dir))
            pids |= {each.pid for each in residents.writers if self._is_of_this_run(each.writer)}
        return unrecorded(self._processes, pids)

    def _names(self) -> list[str]:
        names = published.names(self._chosen.directory, self._run)
        parsed = {name: file_names.parse(name) for name in names}
        return [name for name, each in parsed.items() if each and self._is_of_this_run(each.writer)]

    def _is_of_this_run(self, writer: str) -> bool:
        return writer.startswith(self._run)


def _why(chosen: Settings, code: int) -> str:
    if ControlFiles(chosen.directory).is_off():
        return "recordings there are switched off"
    reason = "it started no Python process that could be recorded"
    return f"{reason}, or was killed before" if code < 0 or code > _SIGNAL_BASE else reason
