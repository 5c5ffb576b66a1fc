"""Words of messages that depend on numbers."""

from __future__ import annotations


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 file`, `2,000 files`, `0 files`.

    `plural` is `singular` with an `s` unless it is given.
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def processes(number: int, what: str = "") -> str:
    """Return how many processes there are, such as `2 running processes`."""
    kind = f"{what} " if what else ""
    return counted(number, f"{kind}process", f"{kind}processes")
