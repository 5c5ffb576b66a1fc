"""The columns of the tables, with their definitions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aqltelemetry.errors import OptionError
from aqltelemetry.views.columns import Column, Row
from aqltelemetry.views.top.forms import age, clock_ms, mib, ms, one_decimal, percent, short, whole

TREND = "trend"
_SEPARATORS = re.compile(r"[\s_-]+")


def _line(_values: Any) -> str:
    return ""  # drawn in the width that is left


_CLOSE = "in ms; at most 0.8 % off"
ROUTES = (
    Column("label", "label", str, 0, "the time series: a route and its method, or a block's label"),
    Column("count", "count", whole, 11, "how many ended in the window"),
    Column("per_s", "per s", short, 1, "count per second of the window in which a worker recorded"),
    Column("p50_s", "p50", ms, 3, f"the median: half of the durations do not exceed it, {_CLOSE}"),
    Column("p99_s", "p99", ms, 2, f"99 % of the durations do not exceed it, {_CLOSE}"),
    Column("max_s", "max", ms, 6, "the longest duration, in ms"),
    Column("errors_4xx", "4xx", whole, 9, "responses with a status of 400 to 499", True),
    Column("errors_5xx", "5xx", whole, 4, "responses with a status of 500 to 599"),
    Column("failures", "failed", whole, 7, "blocks and functions that raised", True),
    Column("disconnects", "gone", whole, 10, "requests whose client disconnected early", True),
    Column("sum_s", "sum s", short, 12, "all durations added up, in seconds"),
    Column(TREND, "per s over the window", _line, 5, "count over the window; own scale per row"),
)
WORKERS = (
    Column("pid", "PID", str, 0, "the process"),
    Column("state", "state", str, 1, "running, stopped, killed, or unknown"),
    Column(
        "busy",
        "busy %",
        percent,
        2,
        "share of the time it recorded in the window in which at least one of its requests or "
        "blocks ran; those in progress count when they end. With asyncio, many run at once: "
        "CPU % shows how much of the processor it uses",
    ),
    Column(
        "in_flight",
        "in flight",
        whole,
        4,
        "requests in progress now, by the slots in its journal; in a replay, at its last sample",
    ),
    Column(
        "in_flight_s",
        "for",
        age,
        8,
        "how long the oldest of them has been in progress; in a replay, since when it is that "
        "number, by its samples",
    ),
    Column(
        "cpu_percent",
        "CPU %",
        one_decimal,
        3,
        "processor time, of one processor's: mean of the samples",
    ),
    Column("rss_bytes", "RSS MiB", mib, 6, "resident memory at its last sample"),
    Column("lag_max_s", "lag", ms, 7, "the largest delay of its event loop in the window, in ms"),
    Column("lag_p99_s", "lag p99", ms, 15, f"99 % of these delays do not exceed it, {_CLOSE}"),
    Column(
        "gc_share", "GC %", percent, 9, "share of the time in which the garbage collector paused it"
    ),
    Column("gc_pause_max_s", "GC max", ms, 14, "the longest of these pauses, in ms"),
    Column("count", "count", whole, 17, "how many of its durations ended in the window"),
    Column("per_s", "per s", short, 5, "count per second of the window in which it recorded"),
    Column("p50_s", "p50", ms, 13, f"the median of its durations, {_CLOSE}"),
    Column("p99_s", "p99", ms, 10, f"99 % of its durations do not exceed it, {_CLOSE}"),
    Column("errors_5xx", "5xx", whole, 12, "responses with a status of 500 to 599", True),
    Column("dropped", "dropped", whole, 3, "observations that it could not keep", True),
    Column("age_s", "age", age, 16, "since the first known time of its recording"),
    Column(TREND, "per s over the window", _line, 11, "count over the window; own scale per row"),
)
SLOWEST = (
    Column("duration_s", "ms", ms, 0, "the duration"),
    Column("label", "label", str, 1, "the time series: a route and its method, or a block's label"),
    Column("pid", "PID", str, 2, "the process"),
    Column("begin_ns", "began", clock_ms, 3, "when it began, in local time"),
    Column("end_ns", "ended", clock_ms, 4, "when it ended, in local time"),
    Column("writer", "writer", str, 5, "distinguishes processes with equal PIDs"),
)
FINDINGS = (
    Column("severity", "", str, 1, "how much it matters: error, warning, or notice"),
    Column("text", "finding", str, 0, "what was found in the last minutes, and the rule's name"),
)
VIEWS: Mapping[str, Sequence[Column]] = {
    "routes": ROUTES,
    "workers": WORKERS,
    "slowest": SLOWEST,
    "findings": FINDINGS,
}
"""The columns of each view."""
DEFAULT_ORDER = {"routes": "per_s", "workers": "pid", "slowest": "duration_s", "findings": ""}
"""The column by which each view is sorted at first; "" for the order of the rows."""
FLEXIBLE = {"routes": "label", "slowest": "label", "findings": "text"}
"""The column of a view that gets the width that is left."""
KEYS = {"routes": ("label",), "workers": ("pid", "writer"), "slowest": ("end_ns", "writer")}
"""The columns that identify a row."""


def find_column(name: str) -> Mapping[str, Column]:
    """Return the column of this head or key in each view that has it; raises OptionError."""
    wanted = _name(name)
    found = {
        view: column
        for view, columns in VIEWS.items()
        for column in columns
        if wanted in (_name(column.head), _name(column.key)) and is_sortable(column)
    }
    if not found:
        heads = {c.head: None for cs in VIEWS.values() for c in cs if is_sortable(c) and c.head}
        raise OptionError("sort", name, f"must be a column: {', '.join(heads)}")
    return found


def _name(text: str) -> str:
    return _SEPARATORS.sub("", text.casefold()).removesuffix("%")


def is_sortable(column: Column) -> bool:
    """Return whether rows can be sorted by a column."""
    return column.key not in {TREND, "text", "severity"}


def in_order(rows: Sequence[Row], column: Column | None, *, is_reversed: bool) -> list[Row]:
    """Return rows sorted by a column: numbers from the largest, texts alphabetically.

    Rows without a value are last. `is_reversed` reverses the order of the others.
    """
    if column is None:
        return list(rows)
    key = column.key
    known = [row for row in rows if row.get(key) is not None]
    falls = column.is_number and key != "pid"
    known.sort(key=lambda row: row[key], reverse=falls is not is_reversed)
    return [*known, *(row for row in rows if row.get(key) is None)]


_STATES = {"running": "good", "killed": "bad"}
_SEVERITIES = {"error": "bad", "warning": "warn", "notice": "accent"}
_ALARMS = {
    **dict.fromkeys(("errors_5xx", "failures", "dropped"), ("bad", 0.0)),
    **dict.fromkeys(("errors_4xx", "disconnects"), ("warn", 0.0)),
    "busy": ("warn", 0.9),
    "cpu_percent": ("warn", 90.0),
    "gc_share": ("warn", 0.1),
}


def style_of(column: Column, row: Row) -> str:
    """Return the name of a cell's style."""
    value, key = row.get(column.key), column.key
    if key in {"state", "severity"}:
        return (_STATES if key == "state" else _SEVERITIES).get(str(value), "dim")
    if not value or row.get("state") in {"killed", "stopped"}:
        return "dim"
    if key in _ALARMS and value > _ALARMS[key][1]:
        return _ALARMS[key][0]
    return "accent" if key == TREND else "plain"
