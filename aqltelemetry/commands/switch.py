"""`aqltelemetry off` and `aqltelemetry on`: switch the recordings into a directory."""

from __future__ import annotations

from pathlib import Path

import click

from aqltelemetry.commands.options import takes_existing_directory
from aqltelemetry.runtime.control_files import ControlFiles


@click.command()
@takes_existing_directory
def off(directory: Path) -> None:
    """Switch off all recordings into DIR.

    They stay off until `aqltelemetry on DIR`. Running processes follow within a
    second, and processes that start later record nothing.
    """
    _switch(directory, on=False)


@click.command()
@takes_existing_directory
def on(directory: Path) -> None:
    """Switch recordings into DIR on again."""
    _switch(directory, on=True)


def _switch(directory: Path, *, on: bool) -> None:
    word = "on" if on else "off"
    try:
        changed = ControlFiles(str(directory.absolute())).switch(on=on)
    except OSError as exc:
        raise click.ClickException(f"{directory} can't be switched {word}: {exc.strerror}") from exc
    click.echo(f"recordings into {directory} are {'' if changed else 'already '}switched {word}")
