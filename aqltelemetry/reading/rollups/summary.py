"""Roll-ups as DataFrames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rollups.adding import added
from aqltelemetry.reading.rollups.buckets import ZERO, middles
from aqltelemetry.reading.rollups.files import RollUp
from aqltelemetry.system.later import pd

_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def summarize(parts: Iterable[RollUp], every_ns: int | None) -> pd.DataFrame:
    """Return the table of `TelemetryDB.rollups`."""
    rows = added(parts, every_ns)
    columns = {
        "count": rows.counts,
        "sum": rows.sums,
        "min": rows.mins,
        "max": rows.maxs,
        **dict(zip(_PERCENTILES, percentiles(rows, list(_PERCENTILES.values())), strict=True)),
    }
    labels = pd.Index([rows.labels[code] for code in rows.label_codes], name="label", dtype=object)
    if every_ns is None:
        found = pd.DataFrame(columns, labels)
        return found.sort_values("count", ascending=False, kind="stable")
    begins = pd.DatetimeIndex(rows.begins_ns.view("datetime64[ns]"))
    return pd.DataFrame(
        columns, pd.MultiIndex.from_arrays([begins, labels], names=["begin", "label"])
    ).sort_index(level="begin", sort_remaining=False, kind="stable")


def percentiles(rows: RollUp, parts: list[float]) -> list[npt.NDArray[np.float64]]:
    """Return the value that each part of the values of a row does not exceed; NaN for no value.

    Of n values, it is the one of rank ceil(part * n), as the middle of its bucket, which differs by
    `buckets.ERROR` of it at most.
    """
    size = len(rows.counts)
    groups = np.repeat(np.arange(size), rows.lengths)
    has_others = np.flatnonzero(rows.not_positive)
    groups = np.concatenate([groups, has_others])
    numbers = np.concatenate([rows.buckets, np.full(len(has_others), ZERO)])
    counts = np.concatenate([rows.bucket_counts, rows.not_positive[has_others]])
    order = np.lexsort((numbers, groups))
    totals = np.cumsum(counts[order])
    estimates = middles(numbers[order])
    of_group = np.zeros(size, np.int64)
    np.add.at(of_group, groups, counts)
    before = np.cumsum(of_group) - of_group
    found = []
    for part in parts:
        ranks = before + np.maximum(1, np.ceil(part * of_group)).astype(np.int64)
        values = np.full(size, np.nan)
        known = of_group > 0
        values[known] = estimates[np.searchsorted(totals, ranks[known])]
        found.append(np.clip(values, rows.mins, rows.maxs))
    return found


def frame(parts: Iterable[RollUp]) -> pd.DataFrame:
    """Return all rows as a table for SQL, as docs/reference/formats.md describes it."""
    found = [_frame(part) for part in parts]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=_COLUMNS)


_COLUMNS = (
    *("Begin", "Seconds", "Label", "Count", "Sum", "Min", "Max"),
    *("NotPositive", "Buckets", "Counts"),
)


def _frame(rows: RollUp) -> pd.DataFrame:
    ends = np.cumsum(rows.lengths)[:-1]
    values = (
        rows.begins_ns.view("datetime64[ns]"),
        rows.interval_ns / 1e9,
        [rows.labels[code] for code in rows.label_codes],
        *(rows.counts, rows.sums, rows.mins, rows.maxs, rows.not_positive),
        np.split(rows.buckets, ends),
        np.split(rows.bucket_counts, ends),
    )
    return pd.DataFrame(dict(zip(_COLUMNS, values, strict=True)))
