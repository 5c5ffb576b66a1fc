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


def ago(seconds: float) -> str:
    """Return how long ago something was, in the unit that fits: `90 s ago`, `3 hours ago`."""
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit} ago"
    hours = round(seconds / 3600)
    return f"{hours} hours ago" if hours < 48 else f"{hours // 24:,} days ago"  # noqa: PLR2004
