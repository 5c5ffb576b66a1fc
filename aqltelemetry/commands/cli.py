"""The command `aqltelemetry`, which imports a command's module when it is used."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper

import click

from aqltelemetry.system.extensions import in_use

COMMANDS = {
    "run": "run",
    "report": "report",
    "top": "top",
    "diff": "diff",
    "serve": "serve",
    "plot": "plot",
    "doctor": "doctor",
    "verify": "verify",
    "recover": "recover",
    "autopsy": "store.autopsy",
    "ship": "shipping.ship",
    "compact": "store.compact",
    "dump": "store.dump",
    "off": "switch",
    "on": "switch",
    "profile": "profile",
    "demo": "demo",
}
"""The commands in the order of `--help`, and the module of each; add a command here."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"aqltelemetry.commands.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(f"{version('aqltelemetry')} ({in_use()})", prog_name="aqltelemetry")
def main() -> None:
    """Record Python services, and examine the recordings."""
    for stream in (sys.stdout, sys.stderr):
        # The name of a file may contain characters that can't be printed.
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def program() -> None:
    """Run the command as the program of this process."""
    try:
        main()
    finally:
        # The interpreter's last collections would look at all that was imported and loaded.
        gc.freeze()
