"""The columns of the report's tables: their heads, definitions, and how values are printed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from aqltelemetry.quantities import mebibytes, milliseconds, number, rate

Row: TypeAlias = Mapping[str, Any]
"""A row of a table: a value for each column's key; None where nothing is known."""
_UNKNOWN = "-"
_PATH_PARTS = 2
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Column(NamedTuple):
    """A column of a table."""

    key: str
    """The field of a row of the report's document."""
    head: str
    """The head as it is printed."""
    form: Callable[[Any], str]
    """Returns a value as it is printed; not called with None."""
    rank: int
    """Where columns have no room, those of the highest rank are left out."""
    meaning: str
    """The definition, for `--help`, the documentation and tooltips."""
    hides_zeros: bool = False
    """Whether the column is left out if all its values are 0."""

    @property
    def is_whole(self) -> bool:
        """Whether values are integers."""
        return self.form in (_count, mebibytes) or self.key == "pid"

    @property
    def is_number(self) -> bool:
        """Whether values are numbers, which are aligned to the right."""
        return self.form not in (str, printable, clock, local_time, code_line, _most)

    def text(self, row: Row) -> str:
        """Return a row's value as it is printed; `-` for None."""
        value = row[self.key]
        return _UNKNOWN if value is None else self.form(value)


def printable(text: str) -> str:
    """Return a text with escapes for characters that control a terminal or turn its direction."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def local_time(text: str) -> str:
    """Return an ISO 8601 time as a local one, to the second: `2026-11-24 14:30:00`."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def local_span(begin: str, end: str) -> str:
    """Return two ISO 8601 times as local ones: `2026-11-24 14:30:00 to 14:31:10`."""
    first, last = local_time(begin), local_time(end)
    day = first.partition(" ")[0]
    return f"{first} to {last.removeprefix(f'{day} ')}"


def clock(text: str) -> str:
    """Return an ISO 8601 time as a local time of day, to the millisecond: `14:30:00.250`."""
    return f"{datetime.fromisoformat(text).astimezone():%H:%M:%S.%f}"[:-3]


def code_line(line: str) -> str:
    """Return a line of code with the end of its path: `orders/app.py:12`."""
    return printable("/".join(line.replace("\\", "/").split("/")[-_PATH_PARTS:]))


def _most(counts: Mapping[str, int]) -> str:
    """Return the first of some labels, and how many there are more."""
    names = [printable(label) for label in counts]
    return names[0] + (f", {len(names) - 1} more" if len(names) > 1 else "") if names else ""


def _count(value: float) -> str:
    return number(value, 0)


def _one_decimal(value: float) -> str:
    return number(value, 1)


def _two_decimals(value: float) -> str:
    return number(value, 2)


def _percent(share: float) -> str:
    return f"{number(100 * share, 0)} %"


def _short_ms(seconds: float) -> str:
    return milliseconds(seconds, 1)


def _significant(value: float) -> str:
    return f"{value:,.6g}"


_PER_S = (
    "count per second of recording: from each process's start to its last sample; "
    "time that several processes share counts once; at least 1 s"
)
DURATIONS = (
    Column(
        "label",
        "label",
        printable,
        0,
        "the time series: a route and its method, or a block's label",
    ),
    Column("count", "count", _count, 1, "number of observations"),
    Column("per_s", "per s", rate, 5, _PER_S),
    Column("errors_4xx", "4xx", _count, 8, "responses with a status of 400 to 499", True),
    Column("errors_5xx", "5xx", _count, 6, "responses with a status of 500 to 599", True),
    Column(
        "disconnects", "disconnects", _count, 10, "requests whose client disconnected early", True
    ),
    Column("failures", "failed", _count, 7, "blocks and functions that raised", True),
    Column("p50_s", "p50", milliseconds, 2, "the median: half of the durations do not exceed it"),
    Column("p90_s", "p90", milliseconds, 12, "90 % of the durations do not exceed it"),
    Column("p95_s", "p95", milliseconds, 9, "95 % of the durations do not exceed it"),
    Column("p99_s", "p99", milliseconds, 3, "99 % of the durations do not exceed it"),
    Column("p999_s", "p99.9", milliseconds, 11, "99.9 % of the durations do not exceed it"),
    Column("max_s", "max", milliseconds, 4, "the longest duration"),
    Column("sum_s", "sum s", _two_decimals, 14, "all durations added up"),
    Column(
        "cpu_share",
        "on CPU",
        _percent,
        13,
        "the part of these durations that ran on a processor, where CPU time was recorded",
    ),
)
"""Percentiles are exact, with linear interpolation between the two nearest observations."""
SLOWEST = (
    Column("duration_s", "ms", milliseconds, 1, "the duration"),
    Column("label", "label", printable, 0, "the time series"),
    Column("begin", "begin", clock, 2, "when it began"),
    Column("end", "end", clock, 5, "when it ended"),
    Column("pid", "PID", str, 3, "the process"),
    Column("writer", "writer", str, 6, "distinguishes processes with equal PIDs"),
    Column("outcome", "outcome", str, 4, "4xx, 5xx, disconnect or failed; empty if it succeeded"),
    Column(
        "stall_s",
        "blocked",
        milliseconds,
        7,
        "for how long its event loop was blocked meanwhile; empty without recorded stalls",
        True,
    ),
    Column("stall_cause", "cause", printable, 9, "the cause of the longest stall meanwhile"),
    Column("stall_line", "line", code_line, 8, "the line of that stall"),
    Column(
        "cpu_share",
        "on CPU",
        _percent,
        11,
        "the part of it that ran on a processor; empty without recorded CPU time",
    ),
    Column("gc_s", "GC", milliseconds, 10, "for how long the garbage collector ran", True),
)
STALLS = (
    Column("cause", "cause", printable, 0, "what blocked the event loop"),
    Column("line", "line", code_line, 1, "the innermost line of your code; empty if none was seen"),
    Column("function", "function", printable, 8, "the function of the line"),
    Column("count", "count", _count, 2, "number of stalls"),
    Column("total_s", "total ms", _short_ms, 3, "their lengths added up"),
    Column("longest_s", "longest", _short_ms, 4, "the longest one"),
    Column("first", "first", clock, 11, "when the first one began"),
    Column("last", "last", clock, 7, "when the last one ended"),
    Column("workers", "workers", _count, 10, "in how many processes"),
    Column(
        "delayed",
        "delayed",
        _count,
        5,
        "requests in progress during one of them, each counted once; blocks if there are none",
    ),
    Column("routes", "routes", _most, 9, "their labels, those with the most first"),
    Column("handlers", "in", _most, 6, "the requests whose handler blocked, most often first"),
    Column("blocks", "blocks", _most, 12, "the blocks that were open, most often first"),
)
WORKERS = (
    Column("pid", "PID", str, 0, "the process"),
    Column("writer", "writer", str, 2, "distinguishes processes with equal PIDs"),
    Column("state", "state", str, 1, "running, stopped, killed, or unknown"),
    Column("begin", "begin", local_time, 18, "the first known instant of its recording"),
    Column("end", "end", local_time, 19, "the last known instant of its recording"),
    Column("count", "count", _count, 3, "number of its durations"),
    Column("per_s", "per s", rate, 9, "count per second of its recording"),
    Column("p50_s", "p50", milliseconds, 8, "the median of its durations"),
    Column("p99_s", "p99", milliseconds, 4, "99 % of its durations do not exceed it"),
    Column("errors_5xx", "5xx", _count, 10, "responses with a status of 500 to 599", True),
    Column("in_flight", "in flight", _count, 13, "requests in progress at its last sample", True),
    Column(
        "cpu_percent",
        "CPU %",
        _one_decimal,
        7,
        "processor time used while it recorded, in percent of one processor",
    ),
    Column("cpu_s", "CPU s", _two_decimals, 14, "user and system time since its start"),
    Column("rss_bytes", "RSS MiB", mebibytes, 5, "resident memory at its last sample"),
    Column("rss_max_bytes", "RSS max", mebibytes, 15, "the largest sample of resident memory"),
    Column(
        "lag_p99_s",
        "lag p99",
        _short_ms,
        11,
        "99 % of its event loop's delays do not exceed it; measured every 0.1 s",
    ),
    Column(
        "lag_max_s",
        "lag max",
        _short_ms,
        6,
        "the largest delay of its event loop; measured every 0.1 s",
    ),
    Column("gc_collections", "GC runs", _count, 17, "garbage collections since its start"),
    Column("gc_pauses", "GC pauses", _count, 16, "garbage collections while it recorded"),
    Column("gc_pause_s", "GC ms", _short_ms, 12, "their pauses added up"),
    Column("gc_pause_max_s", "GC max", _short_ms, 10, "the longest of these pauses"),
    Column("dropped", "dropped", _count, 2, "observations taken and not kept", True),
)
VALUES = (
    Column("prefix", "prefix", str, 4, "the first part of the files' names"),
    Column("label", "label", printable, 0, "the time series, of `record` or of a sampler"),
    Column("count", "count", _count, 1, "number of observations"),
    Column("min", "min", _significant, 5, "the smallest value"),
    Column("median", "median", _significant, 3, "half of the values do not exceed it"),
    Column("max", "max", _significant, 4, "the largest value"),
    Column("last", "last", _significant, 2, "the latest value"),
)
TABLES: Mapping[str, Sequence[Column]] = {
    "durations": DURATIONS,
    "slowest": SLOWEST,
    "stalls": STALLS,
    "workers": WORKERS,
    "values": VALUES,
}
"""The columns of each table of the document."""
TITLES = {
    "durations": "durations, in ms",
    "slowest": "slowest durations",
    "stalls": "stalls of event loops, in ms",
    "workers": "workers, times in ms",
    "values": "other series",
}
"""The title of each table."""


def headline(document: Mapping[str, Any]) -> str:
    """Return what was recorded and when, in a line."""
    directory = printable(document["directory"])
    if document["begin"] is None:
        return f"{directory}: nothing recorded"
    length_s, span = document["recorded_s"], local_span(document["begin"], document["end"])
    length = "" if length_s is None else f"{length_s:,.1f} s recorded, "
    return f"{directory}: {length}{span}"


def with_content(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Return the columns that say something about these rows.

    A column without a known value is left out, one of rare events if there were none, and the
    writers where PIDs are unique.
    """
    return [column for column in columns if _has_content(column, rows)]


def _has_content(column: Column, rows: Sequence[Row]) -> bool:
    if column.key == "writer":
        pids = Counter(pid for pid, _ in {(row["pid"], row["writer"]) for row in rows})
        return any(count > 1 for count in pids.values())
    values = {str(value) if isinstance(value := row[column.key], dict) else value for row in rows}
    nothing = {None, "", "{}", *((0,) if column.hides_zeros else ())}
    return not values <= nothing
