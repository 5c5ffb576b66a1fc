"""What the commands have in common: the directory, and errors about processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from aqltelemetry.settings import default_directory

EXIT_INCOMPLETE = 3
"""Exit status of a command that did what it could, but not all."""


def takes_directory(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument [DIR] and the option --dir, which are one parameter.

    The command is called with `directory`, None where neither is given.
    """

    @wraps(command)
    def merged(*args: Any, directory: str | None, dir_option: str | None, **others: Any) -> Any:
        if None not in (directory, dir_option) and directory != dir_option:
            raise click.UsageError("give the directory once: as DIR or as --dir")
        return command(*args, directory=dir_option if directory is None else directory, **others)

    merged = click.argument("directory", metavar="[DIR]", required=False)(merged)
    text = "The same as DIR.  [default: AQLTELEMETRY_DIR, or _monitoring]"
    return click.option("--dir", "dir_option", metavar="DIR", help=text)(merged)


def takes_existing_directory(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do as `takes_directory`, and call the command with the path of a directory that exists."""

    @wraps(command)
    def resolved(*args: Any, directory: str | None, **others: Any) -> Any:
        return command(*args, directory=existing(directory), **others)

    return takes_directory(resolved)


def existing(directory: str | None) -> Path:
    """Return the directory that is given, or the default one; it must exist."""
    path = Path(directory or default_directory())
    if not path.exists():
        hint = "" if directory else "; give its DIR, or set AQLTELEMETRY_DIR"
        raise click.UsageError(f"{path} does not exist: nothing was recorded there{hint}")
    if not path.is_dir():
        raise click.UsageError(f"{path} is a file, not a directory")
    return path


def no_process(pid: int) -> click.ClickException:
    """Return the error of a process that is not there."""
    return click.ClickException(f"there is no process {pid}")


def no_access(pid: int) -> click.ClickException:
    """Return the error of a process that this user may not examine."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        owner = os.geteuid()
    if owner == os.geteuid() or os.geteuid() == 0:
        text = f"the system does not let this process examine process {pid}"
        return click.ClickException(f"{text}: limits of a container, perhaps")
    return click.ClickException(
        f"process {pid} belongs to user {owner}: run this as that user, or as root"
    )


class IncompleteError(click.ClickException):
    """Ends a command that did what it could, but not all, with its exit status."""

    exit_code = EXIT_INCOMPLETE
