"""What several commands share: the directory, the journal, and errors about processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeAlias

import click
from click.shell_completion import CompletionItem

from aqltelemetry.errors import TelemetryError
from aqltelemetry.journal.location import all_roots
from aqltelemetry.quantities import parse_seconds
from aqltelemetry.settings import Settings, default_directory, settings

_Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
EXIT_INCOMPLETE = 3
"""Exit status of a command whose result is incomplete."""
_MAX_S = 1e9


class Time(click.ParamType[float]):
    """A length of time in seconds: a number, or a text such as `90s`, `1h` or `7d`.

    Args:
        allows_zero: Whether it may be 0.
    """

    name = "time"

    def __init__(self, *, allows_zero: bool = False) -> None:
        self._rule = "a time" if allows_zero else "a time above 0"
        self._allows_zero = allows_zero

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds that a text stands for; a wrong one ends the command."""
        try:
            seconds = parse_seconds(str(value))
        except ValueError:
            seconds = -1.0
        if not (0 < seconds < _MAX_S or (self._allows_zero and seconds == 0)):
            text = f"{value!r} is not {self._rule}, such as 90s, 30m, 1h or 7d"
            self.fail(text, param, ctx)
        return seconds


def complete_directory(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a directory."""
    del context, parameter
    return [CompletionItem(incomplete, type="dir")]


def takes_directory(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument [DIR] and the option --dir to a command, as one parameter.

    The command is called with `directory`, None if neither is given.
    """

    @wraps(command)
    def merged(*args: Any, directory: str | None, dir_option: str | None, **others: Any) -> Any:
        if None not in (directory, dir_option) and directory != dir_option:
            raise click.UsageError("give the directory once: as DIR or as --dir")
        return command(*args, directory=dir_option if directory is None else directory, **others)

    merged = click.argument(
        "directory", metavar="[DIR]", required=False, shell_complete=complete_directory
    )(merged)
    text = "The same as DIR.  [default: AQLTELEMETRY_DIR, or _monitoring]"
    return click.option(
        "--dir", "dir_option", metavar="DIR", help=text, shell_complete=complete_directory
    )(merged)


def takes_existing_directory(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add DIR as `takes_directory` does; the command is called with an existing path."""

    @wraps(command)
    def resolved(*args: Any, directory: str | None, **others: Any) -> Any:
        return command(*args, directory=existing(directory), **others)

    return takes_directory(resolved)


def takes_directories(
    command: Callable[..., Any], complete: _Complete = complete_directory
) -> Callable[..., Any]:
    """Add the argument [DIR]... and the option --dir to a command, as one parameter.

    The command is called with `directories`, at least one existing path. `complete` lets the
    shell complete the argument.
    """

    @wraps(command)
    def resolved(
        *args: Any, directories: Sequence[str], dir_options: Sequence[str], **others: Any
    ) -> Any:
        given = dict.fromkeys([*directories, *dir_options]) or [None]
        return command(*args, directories=[existing(each) for each in given], **others)

    return _several(resolved, complete)


def takes_new_directories(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument [DIR]... and the option --dir, as one parameter.

    The command is called with `directories`, at least one path, which need not exist yet.
    """

    @wraps(command)
    def resolved(
        *args: Any, directories: Sequence[str], dir_options: Sequence[str], **others: Any
    ) -> Any:
        given = [*dict.fromkeys([*directories, *dir_options])] or [default_directory()]
        for each in map(Path, given):
            if each.exists() and not each.is_dir():
                raise click.UsageError(f"{each} is a file, not a directory")
        return command([*map(Path, given)], *args, **others)

    return _several(resolved)


def _several(
    command: Callable[..., Any], complete: _Complete = complete_directory
) -> Callable[..., Any]:
    """Add the argument [DIR]... and the option --dir, as two parameters."""
    command = click.argument("directories", metavar="[DIR]...", nargs=-1, shell_complete=complete)(
        command
    )
    return click.option(
        "--dir",
        "dir_options",
        metavar="DIR",
        multiple=True,
        help="The same as DIR.  [default: AQLTELEMETRY_DIR, or _monitoring]",
        shell_complete=complete_directory,
    )(command)


def existing(directory: str | None) -> Path:
    """Return the given directory, or the default one; raises UsageError if it does not exist."""
    path = Path(directory or default_directory())
    if not path.exists():
        hint = "" if directory else "; give DIR, or set AQLTELEMETRY_DIR"
        raise click.UsageError(f"{path} does not exist: nothing was recorded there{hint}")
    if not path.is_dir():
        raise click.UsageError(f"{path} is a file, not a directory")
    return path


takes_journal_dir = click.option(
    "--journal-dir",
    metavar="PATH",
    shell_complete=complete_directory,
    help="The journal's directory, if the recording was started with one.",
)


def checked_settings(directory: Path, journal_dir: str | None) -> Settings:
    """Return the settings of a recording; raises ClickException for a wrong value."""
    try:
        return settings(directory, {} if journal_dir is None else {"journal_dir": journal_dir})
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc


def journal_roots(directory: Path, journal_dir: str | None) -> Sequence[Path]:
    """Return the directories that may hold the journal of a recording."""
    chosen = checked_settings(directory, journal_dir)
    # A directory of another user has its journal under that user's name.
    return all_roots(chosen.directory, chosen.journal_dir, uid=os.stat(directory).st_uid)


def missing_extra(extra: str, exc: ImportError) -> click.ClickException:
    """Return the error for a command whose optional packages are not installed."""
    return click.ClickException(f"{exc}; it comes with the extra aqltelemetry[{extra}]")


def no_process(pid: int) -> click.ClickException:
    """Return the error for a process that does not exist."""
    return click.ClickException(f"there is no process {pid}")


def no_access(pid: int) -> click.ClickException:
    """Return the error for a process that this user may not examine."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        owner = os.geteuid()
    if owner == os.geteuid() or os.geteuid() == 0:
        text = f"the system does not let this process examine process {pid}"
        return click.ClickException(f"{text}: perhaps by limits of a container")
    return click.ClickException(
        f"process {pid} belongs to user {owner}: run this as that user, or as root"
    )


class IncompleteError(click.ClickException):
    """Ends a command whose result is incomplete."""

    exit_code = EXIT_INCOMPLETE
