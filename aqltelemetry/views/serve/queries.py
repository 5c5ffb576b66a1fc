"""Reads the parameters of requests for strips and for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from aqltelemetry.errors import OptionError

MAX_BINS = 2000
"""The largest number of bins that a request may ask for: more than a screen has columns."""
DEFAULT_BINS = 400
DEFAULT_TOP = 300
MAX_TOP = 100_000
_NS_PER_US = 10**3
_END_MS = 2**63 / 10**6  # what a timestamp can hold; in the year 2262


class Window(NamedTuple):
    """The time that a browser shows, and into how many bins it is divided at most."""

    begin_ns: int | None
    """The first instant in nanoseconds since the epoch; None for that of the recording."""
    end_ns: int | None
    """The instant after the last one; None for that of the recording."""
    bins: int


def window(query: Mapping[str, str]) -> Window:
    """Return the window of a query: `begin` and `end` in ms since the epoch, and `bins`.

    Raises:
        OptionError: One of them is no number, or out of range.
    """
    begin_ns, end_ns = _ns(query, "begin"), _ns(query, "end")
    if begin_ns is not None and end_ns is not None and begin_ns >= end_ns:
        raise OptionError("end", query["end"], "must be after begin")
    return Window(begin_ns, end_ns, _whole(query, "bins", DEFAULT_BINS, 1, MAX_BINS))


def top(query: Mapping[str, str]) -> int:
    """Return the number of rows of each table of a report, 0 for all.

    Raises:
        OptionError: `top` is no number, or out of range.
    """
    return _whole(query, "top", DEFAULT_TOP, 0, MAX_TOP)


def _ns(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        at_ms = float(text)
    except ValueError:
        at_ms = math.nan
    if not 0 <= at_ms < _END_MS:
        raise OptionError(name, text, "must be a number of milliseconds since the epoch")
    return round(at_ms * 1000) * _NS_PER_US


def _whole(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name, "") or str(default)
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    value = int(text) if is_number else -1
    if not least <= value <= most:
        raise OptionError(name, text, f"must be a whole number from {least} to {most}")
    return value
