"""`python -m aqltelemetry` is the command `aqltelemetry`."""

from aqltelemetry.commands.cli import program

program()
