"""Makes the report's document: plain values, the source of all that views print or draw.

`report --json` prints it. The tables of the terminal, Markdown, CSV and HTML, `top` and `serve`
show its values. docs/reference/report-json.md describes each field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aqltelemetry.errors import OptionError
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.later import pd
from aqltelemetry.views.columns import TABLES, Column, Row
from aqltelemetry.views.findings.find import find
from aqltelemetry.views.findings.finding import Finding
from aqltelemetry.views.stalls.bins import blocked_s
from aqltelemetry.views.strips.cells import Span, grid

VERSION = 1
"""The version of the document. It grows if a field is removed or changes its meaning."""
_BINS = 160
_SEPARATORS = re.compile(r"[\s_-]+")


@dataclass(frozen=True, slots=True)
class Options:
    """What a document contains, and in which order.

    Attributes:
        labels: Patterns of labels: `*` stands for any text, `?` for any character. Series that
            match none of them are left out. Empty for all.
        sort: The head or the key of a column. Tables that have it are sorted by it: numbers
            from the largest to the smallest, texts alphabetically. None for the usual order:
            the most frequent first.
        top: The largest number of rows of each table; 0 for all.
        slowest: The number of slowest durations.
    """

    labels: Sequence[str] = ()
    sort: str | None = None
    top: int = 0
    slowest: int = 5

    def __post_init__(self) -> None:
        if self.sort is not None and not any(map(self.sort_key, TABLES)):
            heads = {column.head: None for columns in TABLES.values() for column in columns}
            raise OptionError("sort", self.sort, f"must be a column: {', '.join(heads)}")

    def sort_key(self, table: str) -> Column | None:
        """Return the column that a table is sorted by; None if it does not have it."""
        if self.sort is None:
            return None
        wanted = _name(self.sort)
        columns = TABLES[table]
        return next((c for c in columns if wanted in (_name(c.head), _name(c.key))), None)

    def has_place(self, finding: Finding) -> bool:
        """Return whether a finding is about a wanted series, or about no series at all."""
        return finding.label is None or self.has(finding.label)

    def has(self, label: str) -> bool:
        """Return whether a series is wanted."""
        return not self.labels or any(_matches(label, each) for each in self.labels)


EVERYTHING = Options()


def document(
    db: TelemetryDB, options: Options = EVERYTHING, findings: Sequence[Finding] | None = None
) -> dict[str, Any]:
    """Return what a report says about the loaded observations.

    Args:
        db: The recording.
        options: What to include, and in which order.
        findings: The findings, if they are known already.

    Returns:
        A dict of dicts, lists, texts, numbers and None. Times are texts in ISO 8601 and UTC,
        durations are seconds. None stands where nothing is known, never NaN.
        docs/reference/report-json.md describes each field.

    Example:
        >>> [(row["label"], row["p99_s"]) for row in document(db)["durations"]]
    """
    _kept = db.basis()  # so that the tables and findings compute what they share once
    tables = {
        "durations": _with_labels(_rows(_durations(db), "durations"), options),
        "slowest": _slowest(db, options),
        "stalls": _rows(db.stall_lines(), "stalls"),
        "workers": _rows(db.workers(), "workers"),
        "values": _with_labels(_rows(db.values(), "values"), options),
    }
    shown = {name: _in_order(rows, name, options) for name, rows in tables.items()}
    dropped = db.dropped().groupby(level="reason").sum()
    begin, end = _span(db, tables["workers"])
    found = find(db) if findings is None else findings
    return {
        "version": VERSION,
        "directory": ", ".join(db.directories),
        "begin": begin,
        "end": end,
        "recorded_s": _plain(db.recorded_s()),
        "findings": [each.as_dict() for each in found if options.has_place(each)],
        **shown,
        "blocked": _blocked(db, begin, end),
        "left_out": {name: len(rows) - len(shown[name]) for name, rows in tables.items()},
        "dropped": {
            "count": round(dropped.sum()),
            "reasons": {str(reason): round(count) for reason, count in dropped.items()},
        },
        "not_read": [each._asdict() for each in db.not_read()],
    }


def shortened(values: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Return a document with as many rows as options permit.

    Args:
        values: The result of `document` for more rows, but otherwise the same options.
        options: Of which `top` and `slowest` count.
    """
    limits = {name: options.top or len(values[name]) for name in TABLES}
    limits["slowest"] = min(options.slowest, limits["slowest"])
    shown = {name: values[name][: limits[name]] for name in TABLES}
    left_out = {
        name: values["left_out"][name] + len(values[name]) - len(shown[name]) for name in TABLES
    }
    left_out["slowest"] = values["left_out"]["slowest"]  # the others are no part of it
    return {**values, **shown, "left_out": left_out}


def _durations(db: TelemetryDB) -> pd.DataFrame:
    """Return the summary of each label, with the part of its time on a processor if it is known."""
    return db.summary().join(db.cpu_shares()["cpu_share"])


def _in_order(rows: Sequence[Row], table: str, options: Options) -> list[Row]:
    """Return the rows in the wanted order, as many as are wanted."""
    column = options.sort_key(table)
    if column is not None:
        key = column.key
        known = [row for row in rows if row[key] is not None]
        known.sort(key=lambda row: row[key], reverse=column.is_number)
        rows = [*known, *(row for row in rows if row[key] is None)]
    return list(rows[: options.top or None])


def _with_labels(rows: Sequence[Row], options: Options) -> list[Row]:
    return [row for row in rows if options.has(row["label"])]


def _slowest(db: TelemetryDB, options: Options) -> list[Row]:
    number = min(options.slowest, options.top or options.slowest)
    if not options.labels:
        return _rows(db.slowest(number), "slowest")
    wanted = [label for label in db.duration().labels() if options.has(label)]
    return _rows(db.slowest(number, wanted), "slowest") if wanted else []


def _rows(frame: pd.DataFrame, table: str) -> list[Row]:
    """Return a frame's rows as plain values, by the keys of the table's columns."""
    columns = TABLES[table]
    return [
        {column.key: _plain(record.get(column.key), whole=column.is_whole) for column in columns}
        for record in frame.reset_index().to_dict("records")
    ]


def _plain(value: Any, *, whole: bool = False) -> Any:
    """Return a value as a text, a number or None; `whole` for integers that may be floats."""
    if isinstance(value, pd.Timestamp):
        return f"{value.isoformat(timespec='nanoseconds')}Z"
    if value is None or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return round(value) if whole else value


def _span(db: TelemetryDB, workers: Sequence[Row]) -> tuple[str | None, str | None]:
    """Return the first and the last known instant of the recording."""
    begins, ends = [row["begin"] for row in workers], [row["end"] for row in workers]
    for prefix in db.prefixes():
        times_ns = db.rows(prefix).timepoints_ns
        if len(times_ns):
            begins.append(_plain(pd.Timestamp(times_ns.min())))
            ends.append(_plain(pd.Timestamp(times_ns.max())))
    return min(begins, default=None), max(ends, default=None)


def _blocked(db: TelemetryDB, begin: str | None, end: str | None) -> dict[str, Any] | None:
    """Return for how long event loops were blocked, over time; None if no stall was recorded."""
    stalls = db.stalls()
    if begin is None or end is None or stalls.empty:
        return None
    first = min(pd.Timestamp(begin.rstrip("Z")), stalls["begin"].min())
    last = max(pd.Timestamp(end.rstrip("Z")), stalls["end"].max())
    window = grid(Span(first.value, last.value + 1), _BINS)
    by_cause = blocked_s(stalls, window.begin_ns, window.width_ns, window.bins)
    return {
        "begin": _plain(pd.Timestamp(window.begin_ns)),
        "end": _plain(pd.Timestamp(window.end_ns)),
        "bin_s": window.width_ns / NS_PER_S,
        "causes": {cause: [round(s, 9) for s in each.tolist()] for cause, each in by_cause.items()},
    }


def _matches(label: str, pattern: str) -> bool:
    """Return whether a label matches; brackets stand for themselves: labels have them."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, label, re.DOTALL) is not None


def _name(text: str) -> str:
    """Return the name of a column without what may be written in several ways."""
    return _SEPARATORS.sub("", text.casefold())
