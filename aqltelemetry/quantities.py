"""Quantities as text: parses what people write, and formats what messages say.

Parses and formats sizes, times and switches: "2g", "1.5 MiB", "90s", "1h30m", "yes".
Formats counts, ages, times and sizes: "2,000 files", "3 hours ago", "0.001234", "7.5".
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

BYTES_FORM = 'a number of bytes, such as 1048576, "512k", "64 MiB" or "2g"'
SECONDS_FORM = 'a number of seconds, a timedelta, or such as "0.5", "500ms", "90s", "1h30m" or "7d"'
SWITCH_FORM = "1, true, yes, on, 0, false, no or off"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
# All units are powers of 1024, however they are written.
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?(?:ytes?)?", re.ASCII)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {
    "ms": 1e-3,
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
}
_FINE_MS = 0.01
_UNKNOWN = "-"
_PART = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", re.ASCII)


def parse_switch(value: str) -> bool:
    """Return the bool that a text stands for; raises ValueError."""
    text = value.strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(value)


def parse_bytes(value: str) -> int:
    """Return the number of bytes that a text stands for; raises ValueError."""
    found = _BYTES.fullmatch(value.strip().lower())
    if found is None:
        raise ValueError(value)
    number, unit = found.groups()
    if not unit and "." in number:  # no fractions of a byte
        raise ValueError(value)
    return int(float(number) * _FACTORS[unit]) if "." in number else int(number) * _FACTORS[unit]


def parse_seconds(value: str | timedelta) -> float:
    """Return the number of seconds that a text or a timedelta stands for; raises ValueError."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        return float(value)
    except ValueError:
        return _sum_of_parts(value.lower())


def _sum_of_parts(text: str) -> float:
    seconds, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or part[2] not in _SECONDS:
            raise ValueError(text)
        seconds += float(part[1]) * _SECONDS[part[2]]
        at = part.end()
    if not text.strip():
        raise ValueError(text)
    return seconds


def switch_text(value: object) -> str:
    """Return a bool as a text that `parse_switch` reads."""
    return "yes" if value else "no"


def bytes_text(value: int) -> str:
    """Return a number of bytes in its largest whole unit, as a text that `parse_bytes` reads."""
    for unit in "tgmk":
        if value >= _FACTORS[unit] and value % _FACTORS[unit] == 0:
            return f"{value // _FACTORS[unit]} {unit.upper()}iB"
    return f"{value} bytes"


def seconds_text(value: float) -> str:
    """Return a number of seconds, or of days, as a text that `parse_seconds` reads."""
    if value > _SECONDS["d"] and value % _SECONDS["d"] == 0:
        return f"{value / _SECONDS['d']:g} days"
    return f"{value:g} s"


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 file`, `2,000 files`, `0 files`.

    `plural` is `singular` with an `s` unless it is given.
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def processes(number: int, what: str = "") -> str:
    """Return a number of processes with its noun, such as `2 running processes`."""
    kind = f"{what} " if what else ""
    return counted(number, f"{kind}process", f"{kind}processes")


def ago(seconds: float) -> str:
    """Return an age in a suitable unit: `90 s ago`, `3 hours ago`."""
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit} ago"
    hours = round(seconds / 3600)
    return f"{hours} hours ago" if hours < 48 else f"{hours // 24:,} days ago"  # noqa: PLR2004


def number(value: float, digits: int) -> str:
    """Return a number with a fixed number of decimals, or `-` for NaN: `1,234.50`."""
    return _UNKNOWN if math.isnan(value) else f"{value:,.{digits}f}"


def milliseconds(seconds: float, digits: int | None = None) -> str:
    """Return a time in milliseconds, without the unit.

    By default with three decimals, or with six, to the nanosecond, below 0.01 ms.
    """
    value = seconds * 1000
    return number(value, (3 if value >= _FINE_MS else 6) if digits is None else digits)


def mebibytes(size_bytes: float) -> str:
    """Return a size in MiB with one decimal, without the unit."""
    return number(size_bytes / (1 << 20), 1)


def rate(per_second: float) -> str:
    """Return a rate with one decimal, or with two significant digits below 1."""
    if math.isnan(per_second) or per_second >= 1 or per_second <= 0:
        return number(per_second, 1)
    return f"{per_second:.{1 - math.floor(math.log10(per_second))}f}"
