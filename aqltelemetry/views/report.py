"""A summary of recorded data: per label and per worker, as frames and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
from rich.table import Table
from rich.text import Text

from aqltelemetry.hosts.labels import SERIES_SUFFIXES
from aqltelemetry.journal.counters import TORN
from aqltelemetry.observation import (
    ACCOUNT,
    DURATION,
    LABEL,
    MEASUREMENT,
    PID,
    RUNTIME,
    TIMEPOINT,
)
from aqltelemetry.quantities import counted
from aqltelemetry.reading.csv_frames import WRITER
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.frames import TelemetryFrame
from aqltelemetry.sinks import account
from aqltelemetry.views.recorded_time import recorded_s

if TYPE_CHECKING:
    from pandas.core.groupby import SeriesGroupBy
    from rich.console import Console

_DROPPED = "telemetry dropped "
_REASON = "reason"
_MS = 1e3
_MIB = 1 << 20
_FINE_MS = 0.01
_NOTHING = "-"


def durations(db: TelemetryDB) -> pd.DataFrame:
    """Return a row per duration label, the most frequent first, each request's together.

    `per_second` is the count over the time recorded (see `recorded_time.recorded_s`),
    which is the same for all rows, so that they add up. `p50`, `p95`, `p99` and `max`
    are seconds, exact, by linear interpolation between the two nearest observations
    (numpy's default).
    """
    data = db.duration().data()
    grouped = data.groupby(LABEL, observed=True)[MEASUREMENT]
    table = pd.DataFrame({"count": grouped.count()})
    table["per_second"] = table["count"] / recorded_s(
        db.duration().data_by_process(), db.runtime().data_by_process(), db.since_ns
    )
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        table[name] = grouped.quantile(share)
    table["max"] = grouped.max()
    return _together(table.sort_values("count", ascending=False, kind="stable"))


def _together(table: pd.DataFrame) -> pd.DataFrame:
    """Put what is recorded beside a request's total right after it."""
    position = {str(label): number for number, label in enumerate(table.index)}

    def place(label: str) -> tuple[int, int]:
        total, _, word = label.rpartition(" ")
        if word in SERIES_SUFFIXES and total in position:
            return position[total], 1 + SERIES_SUFFIXES.index(word)
        return position[label], 0

    return table.iloc[[position[label] for label in sorted(position, key=place)]]


def workers(db: TelemetryDB) -> pd.DataFrame:
    """Return a row per process, by PID and writer (see `TelemetryFrame.data_by_process`).

    `durations` is a count; `gc_collections` the total since the interpreter's
    start, at the last sample; `gc_pauses` a count, `gc_pause_s` their sum and
    `gc_pause_max_s` the longest; `cpu_s` user and system time since the process's
    start; `rss_bytes` and `rss_max_bytes` the last and largest sample;
    `lag_p99_s` and `lag_max_s` of the event loop; `dropped` the observations that
    were not kept. NaN where nothing was sampled.
    """
    runtime = db.runtime()
    counted = _by_process(db.duration().data_by_process()).count()
    sampled = _by_process(runtime.data_by_process()).count()
    every = counted.index.union(sampled.index)
    pauses, rss = _sampled(runtime, "gc pause"), _sampled(runtime, "rss")
    lag = _sampled(runtime, "event loop lag")
    collections = _sampled(runtime, "gc collections").last()
    return pd.DataFrame(
        {
            "durations": counted.reindex(every, fill_value=0),
            "gc_collections": collections,
            # Where the collector was watched, no pause is a count too.
            "gc_pauses": pauses.count().combine_first(collections * 0),
            "gc_pause_s": pauses.sum().combine_first(collections * 0),
            "gc_pause_max_s": pauses.max(),
            "cpu_s": _sampled(runtime, "user time").last()
            + _sampled(runtime, "system time").last(),
            "rss_bytes": rss.last(),
            "rss_max_bytes": rss.max(),
            "lag_p99_s": lag.quantile(0.99),
            "lag_max_s": lag.max(),
            "dropped": dropped(db).groupby(level=[PID, WRITER]).sum().reindex(every, fill_value=0),
        },
        index=every,
    )


def values(db: TelemetryDB) -> pd.DataFrame:
    """Return a row per series of values of one's own, by file prefix and label."""
    frames = [
        db.frame(prefix).data().reset_index(drop=True).assign(Prefix=prefix)
        for prefix in db.prefixes()
        if prefix not in (DURATION, RUNTIME)
    ]
    if not frames:
        return pd.DataFrame()
    data = pd.concat(frames).astype({LABEL: str}).sort_values(TIMEPOINT, kind="stable")
    grouped = data.groupby(["Prefix", LABEL])[MEASUREMENT]
    return grouped.agg(["count", "min", "median", "max", "last"])


def dropped(db: TelemetryDB) -> pd.Series[float]:
    """Return how many observations were dropped, by PID, writer and reason.

    By the accounts beside the files, and by the last sample where that tells more, as
    while a process records. A forked child that had several writers is under one of them.
    """
    told = pd.concat([_accounted_drops(db), _sampled_drops(db)])
    return told.groupby(level=[PID, WRITER, _REASON]).max()


def _sampled_drops(db: TelemetryDB) -> pd.Series[float]:
    data = db.runtime().data_by_process().astype({LABEL: str, WRITER: str})
    rows = data[data[LABEL].str.startswith(_DROPPED)].sort_values(TIMEPOINT, kind="stable")
    reasons = rows[LABEL].str.removeprefix(_DROPPED).rename(_REASON)
    return rows.groupby([rows[PID], rows[WRITER], reasons])[MEASUREMENT].last()


def _accounted_drops(db: TelemetryDB) -> pd.Series[float]:
    data = db.frame(ACCOUNT).data_by_process().astype({LABEL: str, WRITER: str})
    rows = data[data[LABEL].str.startswith(account.DROPPED)]
    writers = rows[WRITER].map(_stand_ins(data)).rename(WRITER)
    reasons = rows[LABEL].str.removeprefix(account.DROPPED).rename(_REASON)
    grouped = rows.groupby([rows[PID], writers, reasons])[MEASUREMENT]
    # Torn counts are per account; all other counts are running totals.
    is_torn = grouped.max().index.get_level_values(_REASON) == TORN
    return grouped.sum().where(is_torn, grouped.max())


def _stand_ins(data: pd.DataFrame) -> Mapping[str, str]:
    """Map each writer to the one that stands for its recording."""
    rows = data[data[LABEL] == account.CHILD]
    children = dict(zip(rows[WRITER], rows[MEASUREMENT].astype(int), strict=True))
    return account.recordings({writer: children.get(writer) for writer in data[WRITER].unique()})


def render(db: TelemetryDB, console: Console) -> None:
    """Print the report."""
    console.print(_durations_table(durations(db)))
    console.print(_workers_table(workers(db)))
    own = values(db)
    if not own.empty:
        console.print(_values_table(own))
    losses = dropped(db)
    if losses.sum():
        reasons = losses.groupby(level=_REASON).sum()
        told = ", ".join(f"{reason} {count:.0f}" for reason, count in reasons.items())
        total = counted(round(losses.sum()), "observation")
        console.print(f"dropped: {total} ({told})", style="bold red")
    else:
        console.print("dropped: 0 observations")


def _sampled(runtime: TelemetryFrame, label: str) -> SeriesGroupBy[Any, Any]:
    data = runtime.data_by_process()
    return _by_process(data[data[LABEL] == label].sort_values(TIMEPOINT, kind="stable"))


def _by_process(data: pd.DataFrame) -> SeriesGroupBy[Any, Any]:
    return data.astype({WRITER: str}).groupby([PID, WRITER])[MEASUREMENT]


def _durations_table(table: pd.DataFrame) -> Table:
    shown = _table("durations, in ms", "label", "count", "per s", "p50", "p95", "p99", "max")
    for label, row in table.iterrows():
        shown.add_row(
            Text(str(label)),
            _number(row["count"], 0),
            _rate(row["per_second"]),
            *(_milliseconds(row[name]) for name in ("p50", "p95", "p99", "max")),
        )
    return shown


def _workers_table(table: pd.DataFrame) -> Table:
    shown = _table(
        "workers",
        *("PID", "durations", "GC runs", "GC pauses", "GC ms", "GC max ms"),
        *("CPU s", "RSS MiB", "RSS max", "lag p99 ms", "lag max ms"),
    )
    for process, row in table.iterrows():
        shown.add_row(
            str(cast("tuple[int, str]", process)[0]),
            _number(row["durations"], 0),
            _number(row["gc_collections"], 0),
            _number(row["gc_pauses"], 0),
            _number(row["gc_pause_s"] * _MS, 1),
            _number(row["gc_pause_max_s"] * _MS, 1),
            _number(row["cpu_s"], 2),
            _number(row["rss_bytes"] / _MIB, 1),
            _number(row["rss_max_bytes"] / _MIB, 1),
            _number(row["lag_p99_s"] * _MS, 1),
            _number(row["lag_max_s"] * _MS, 1),
        )
    return shown


def _values_table(table: pd.DataFrame) -> Table:
    shown = _table("values", "file prefix, label", "count", "min", "median", "max", "last")
    for series, row in table.iterrows():
        numbers = (f"{row[name]:,.6g}" for name in ("min", "median", "max", "last"))
        name = Text(", ".join(cast("tuple[str, str]", series)))
        shown.add_row(name, _number(row["count"], 0), *numbers)
    return shown


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=False, overflow="fold")
    return table


def _milliseconds(seconds: float) -> str:
    # To the nanosecond where it matters.
    return _number(seconds * _MS, 3 if seconds * _MS >= _FINE_MS else 6)


def _rate(per_second: float) -> str:
    """Return a rate with one decimal, or, where it is small, with two digits of its own."""
    if math.isnan(per_second) or per_second >= 1 or per_second <= 0:
        return _number(per_second, 1)
    return f"{per_second:.{1 - math.floor(math.log10(per_second))}f}"


def _number(value: float, digits: int) -> str:
    return _NOTHING if math.isnan(value) else f"{value:,.{digits}f}"
