"""`python -m aqltelemetry` is the command `aqltelemetry`."""

from aqltelemetry.cli import main

main()
