"""Summarizes recorded data: every number that a view shows is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from aqltelemetry.journal.counters import TORN
from aqltelemetry.observation import (
    ACCOUNT,
    DURATION,
    FIRST_BYTE,
    LABEL,
    MEASUREMENT,
    PID,
    REQUEST_OUTCOMES,
    RUNTIME,
    TIMEPOINT,
)
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.frames import TelemetryFrame
from aqltelemetry.reading.rows import WRITER
from aqltelemetry.sinks.account import CHILD, DROPPED
from aqltelemetry.views.recorded_time import recorded_s

if TYPE_CHECKING:
    from pandas.core.groupby import SeriesGroupBy

_SAMPLED_DROPS = "telemetry dropped "
_REASON = "reason"
_SUFFIXES = (FIRST_BYTE, *REQUEST_OUTCOMES)


class Summary(NamedTuple):
    """What a recording contains, a table for each question; see the functions below."""

    durations: pd.DataFrame
    """By label: count, rate, percentiles."""
    processes: pd.DataFrame
    """By PID and writer: garbage collection, CPU time, memory, event loop lag, drops."""
    other_series: pd.DataFrame
    """By file prefix and label: the series of `record` and of user-defined samplers."""
    dropped: pd.Series[float]
    """By PID, writer and reason: the number of dropped observations."""

    def dropped_by_reason(self) -> Mapping[str, int]:
        """Return the number of dropped observations for each reason."""
        counts = self.dropped.groupby(level=_REASON).sum()
        return {str(reason): round(count) for reason, count in counts.items()}


def summarize(db: TelemetryDB) -> Summary:
    """Return the summary of all loaded data."""
    drops = _dropped(db)
    return Summary(_durations(db), _processes(db, drops), _other_series(db), drops)


def _durations(db: TelemetryDB) -> pd.DataFrame:
    """Return a row for each label of a duration, most frequent first; a request's together.

    `per_second` is the count divided by the time recorded (see `recorded_time.recorded_s`),
    which is the same for all rows, so that rates can be added. `p50`, `p95`, `p99` and `max`
    are exact and in seconds, with linear interpolation between the two nearest observations
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
    return _in_order(table.sort_values("count", ascending=False, kind="stable"))


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Move the other series of a request, such as `... ttfb`, behind its total."""
    position = {str(label): number for number, label in enumerate(table.index)}

    def place(label: str) -> tuple[int, int]:
        total, _, word = label.rpartition(" ")
        if word in _SUFFIXES and total in position:
            return position[total], 1 + _SUFFIXES.index(word)
        return position[label], 0

    return table.iloc[[position[label] for label in sorted(position, key=place)]]


def _processes(db: TelemetryDB, dropped: pd.Series[float]) -> pd.DataFrame:
    """Return a row for each process, by PID and writer (see `TelemetryFrame.data_by_process`).

    `durations` is a count; `gc_collections` the total since the start of the interpreter, at
    the last sample; `gc_pauses` a count, `gc_pause_s` their sum and `gc_pause_max_s` the
    longest; `cpu_s` user and system time since the start of the process; `rss_bytes` and
    `rss_max_bytes` the last and the largest sample; `lag_p99_s` and `lag_max_s` of the event
    loop; `dropped` the dropped observations. NaN where nothing was sampled.
    """
    runtime = db.runtime()
    durations = _by_process(db.duration().data_by_process()).count()
    sampled = _by_process(runtime.data_by_process()).count()
    every = durations.index.union(sampled.index)
    pauses, rss = _sampled(runtime, "gc pause"), _sampled(runtime, "rss")
    lag = _sampled(runtime, "event loop lag")
    collections = _sampled(runtime, "gc collections").last()
    return pd.DataFrame(
        {
            "durations": durations.reindex(every, fill_value=0),
            "gc_collections": collections,
            # If the collector was sampled, no pause counts as 0.
            "gc_pauses": pauses.count().combine_first(collections * 0),
            "gc_pause_s": pauses.sum().combine_first(collections * 0),
            "gc_pause_max_s": pauses.max(),
            "cpu_s": _sampled(runtime, "user time").last()
            + _sampled(runtime, "system time").last(),
            "rss_bytes": rss.last(),
            "rss_max_bytes": rss.max(),
            "lag_p99_s": lag.quantile(0.99),
            "lag_max_s": lag.max(),
            "dropped": dropped.groupby(level=[PID, WRITER]).sum().reindex(every, fill_value=0),
        },
        index=every,
    )


def _sampled(runtime: TelemetryFrame, label: str) -> SeriesGroupBy[Any, Any]:
    data = runtime.data_by_process()
    return _by_process(data[data[LABEL] == label].sort_values(TIMEPOINT, kind="stable"))


def _by_process(data: pd.DataFrame) -> SeriesGroupBy[Any, Any]:
    return data.astype({WRITER: str}).groupby([PID, WRITER])[MEASUREMENT]


def _other_series(db: TelemetryDB) -> pd.DataFrame:
    """Return a row for each series of `record` and of user-defined samplers, by prefix, label.

    `count`, `min`, `median`, `max`, and the `last` value, in the unit of the values.
    """
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


def _dropped(db: TelemetryDB) -> pd.Series[float]:
    """Return the number of dropped observations, by PID, writer and reason.

    It is the larger number of the accounts and of the last sample, which is later while a
    process records. A forked child with several writers appears under one of them.
    """
    counts = pd.concat([_accounted_drops(db), _sampled_drops(db)])
    return counts.groupby(level=[PID, WRITER, _REASON]).max()


def _sampled_drops(db: TelemetryDB) -> pd.Series[float]:
    data = db.runtime().data_by_process().astype({LABEL: str, WRITER: str})
    rows = data[data[LABEL].str.startswith(_SAMPLED_DROPS)].sort_values(TIMEPOINT, kind="stable")
    reasons = rows[LABEL].str.removeprefix(_SAMPLED_DROPS).rename(_REASON)
    return rows.groupby([rows[PID], rows[WRITER], reasons])[MEASUREMENT].last()


def _accounted_drops(db: TelemetryDB) -> pd.Series[float]:
    data = db.frame(ACCOUNT).data_by_process().astype({LABEL: str, WRITER: str})
    rows = data[data[LABEL].str.startswith(DROPPED)]
    writers = rows[WRITER].map(_recordings(data)).rename(WRITER)
    reasons = rows[LABEL].str.removeprefix(DROPPED).rename(_REASON)
    grouped = rows.groupby([rows[PID], writers, reasons])[MEASUREMENT]
    # Torn counts are per account; all other counts are running totals.
    is_torn = grouped.max().index.get_level_values(_REASON) == TORN
    return grouped.sum().where(is_torn, grouped.max())


def _recordings(data: pd.DataFrame) -> Mapping[str, str]:
    """Map each writer to itself, and all writers of a forked child to one of them.

    All accounts of a forked child contain the same totals.
    """
    writers = data[WRITER].unique()
    children = data[data[LABEL] == CHILD].drop_duplicates(WRITER)
    first = children.groupby(MEASUREMENT)[WRITER].transform("min")
    return dict(zip(writers, writers, strict=True)) | dict(
        zip(children[WRITER], first, strict=True)
    )
