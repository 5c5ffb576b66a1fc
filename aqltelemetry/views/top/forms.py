"""Numbers and times as short texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from aqltelemetry.system.clock import NS_PER_S

BLOCKS = "▁▂▃▄▅▆▇█"
"""The marks of a sparkline, from the lowest to the highest."""
_MAX_SHORT = 99_999.5
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def short(value: float) -> str:
    """Return a number with two or three digits: `0.0012`, `1.23`, `45.6`, `12,345`, `1.2M`."""
    size = abs(value)
    if size >= _MAX_SHORT:
        return f"{value / 1e6:,.1f}M" if size >= 999_950 else f"{value / 1e3:.0f}k"  # noqa: PLR2004
    if size < 0.00995:  # noqa: PLR2004
        return f"{value:.{min(1 - math.floor(math.log10(size)), 5)}f}" if size else "0"
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.995 else 3  # noqa: PLR2004
    return f"{value:,.{digits}f}"


def whole(value: float) -> str:
    """Return a count: `12,345`, or `1.2M` where it is too long."""
    return f"{value:,.0f}" if abs(value) < _MAX_SHORT else short(value)


def ms(seconds: float) -> str:
    """Return a duration in milliseconds, without the unit."""
    return short(seconds * 1000)


def percent(share: float) -> str:
    """Return a share of 1 in percent, without the unit."""
    return f"{share * 100:.1f}"


def one_decimal(value: float) -> str:
    """Return a number with one decimal."""
    return f"{value:,.1f}"


def mib(size_bytes: float) -> str:
    """Return a size in MiB, without the unit."""
    return f"{size_bytes / (1 << 20):,.1f}"


def age(seconds: float) -> str:
    """Return a time span in one or two units: `8s`, `3m20s`, `5h12m`, `3d04h`."""
    total = int(seconds)
    for size, unit, below, small in _UNITS:
        if total >= size:
            return f"{total // size}{unit}{total % size // below:02}{small}"
    return f"{total}s"


def clock(at_ns: int) -> str:
    """Return a time as a local time of day: `14:30:00`."""
    return f"{_local(at_ns):%H:%M:%S}"


def clock_ms(at_ns: int) -> str:
    """Return a time as a local time of day, to the millisecond: `14:30:00.250`."""
    return f"{_local(at_ns):%H:%M:%S.%f}"[:-3]


def date_and_clock(at_ns: int) -> str:
    """Return a time as a local date and time of day: `2026-11-24 14:30:00`."""
    return f"{_local(at_ns):%Y-%m-%d %H:%M:%S}"


def _local(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns / NS_PER_S, UTC).astimezone()


def sparkline(values: Sequence[float], width: int) -> str:
    """Return at most `width` values as blocks, at the right; the largest is a whole block.

    Nothing is a space, and any other value at least the lowest block.
    """
    largest = max(values, default=0)
    if not largest:
        return " " * width
    levels = (math.ceil(value / largest * len(BLOCKS)) for value in values)
    return "".join(BLOCKS[level - 1] if level > 0 else " " for level in levels).rjust(width)


def cut(text: str, width: int) -> str:
    """Return a text in at most `width` characters; `…` shows that it was longer."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
