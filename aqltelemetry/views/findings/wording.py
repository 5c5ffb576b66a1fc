"""Formats what the sentences of findings contain: times, durations, shares, sizes, workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from aqltelemetry.quantities import counted
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.columns import code_line

_MIB = 1 << 20
_GIB = 1 << 30
_LARGE = 100
_LATIN_AND = " and "
_UNITS_OF_TIME = ((7200, 3600, "hours"), (120, 60, "min"), (0, 1, "s"))


class Calendar:
    """Formats the times of a recording in one zone, with the date if it has several days."""

    def __init__(self, begin_ns: int, end_ns: int, zone: tzinfo | None = None) -> None:
        self._zone = zone
        days = {self._local(at_ns).date() for at_ns in (begin_ns, end_ns)}
        self._form = "%H:%M:%S" if len(days) == 1 else "%Y-%m-%d %H:%M:%S"

    def at(self, at_ns: int) -> str:
        """Return a time, as the option `--since` reads it: `14:03:20`."""
        return self._local(at_ns).strftime(self._form)

    def _local(self, at_ns: int) -> datetime:
        return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).astimezone(self._zone)


def duration(seconds: float) -> str:
    """Return a duration with about three digits: `0.043 ms`, `84 ms`, `2.40 s`."""
    if seconds < 1:
        return f"{_three_digits(seconds * 1000)} ms"
    return f"{_three_digits(seconds)} s"


def _three_digits(value: float) -> str:
    if value >= _LARGE or value == 0:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(value))
    text = f"{value:.{min(digits, 6)}f}"
    return f"{value:.0f}" if float(text) == round(value) else text


def span(seconds: float) -> str:
    """Return a length of time in a suitable unit: `45 s`, `18 min`, `3.5 hours`."""
    for limit_s, unit_s, unit in _UNITS_OF_TIME:
        if seconds >= limit_s:
            value = seconds / unit_s
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"  # noqa: PLR2004
    return f"{seconds:.1f} s"


def share(value: float) -> str:
    """Return a share in per cent: `92 %`, `4.5 %`, `0.04 %`; 100 % are all."""
    percent = value * 100
    if percent >= 10 or percent == 0:  # noqa: PLR2004
        return f"{math.floor(percent):.0f} %"
    return f"{percent:.{max(1, -math.floor(math.log10(percent)))}f} %"


def size(size_bytes: float) -> str:
    """Return a size: `212 MiB`, `1.4 GiB`."""
    if size_bytes >= _GIB:
        return f"{size_bytes / _GIB:.1f} GiB"
    value = size_bytes / _MIB
    return f"{value:.1f} MiB" if value < _LARGE else f"{value:.0f} MiB"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return names as a list: `a`, `a and b`, `a, b and 4 more`."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return _LATIN_AND.join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def place(line: str, function: str) -> str:
    """Return a line of code: the end of its path, and the function: `orders/app.py:12 in `f``."""
    return f"{code_line(line)} in `{function}`" if function else code_line(line)


def stall(cause: str, line: str, function: str) -> str:
    """Return what blocked an event loop: `blocking wait at orders/app.py:12 in `f``."""
    return f"{cause} at {place(line, function)}" if line else cause


def siblings(number: int) -> str:
    """Return how many other workers there are: `its sibling`, `its 3 siblings`."""
    return "its sibling" if number == 1 else f"its {counted(number, 'sibling')}"
