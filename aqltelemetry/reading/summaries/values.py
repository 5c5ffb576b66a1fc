"""Summarizes the series of `record` and of user-defined samplers."""

from __future__ import annotations

from collections.abc import Mapping

from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.summaries.groups import Groups
from aqltelemetry.system.later import pd

_COLUMNS = ("count", "min", "median", "max", "last")


def values(by_prefix: Mapping[str, Rows]) -> pd.DataFrame:
    """Return a row for each series, by prefix and label; see `Tables.values`."""
    found: list[pd.DataFrame] = []
    for prefix, rows in by_prefix.items():
        in_time = rows[rows.timepoints_ns.argsort(kind="stable")]
        groups = Groups(in_time.label_codes, in_time.measurements)
        names = [(prefix, rows.labels[code]) for code in groups.keys.tolist()]
        table = {
            "count": groups.counts,
            "min": groups.min(),
            "median": groups.quantiles([0.5])[:, 0],
            "max": groups.max(),
            "last": groups.last(),
        }
        found.append(pd.DataFrame(table, _index(names)))
    if not found:
        return pd.DataFrame(columns=list(_COLUMNS), index=_index([]), dtype=float)
    return pd.concat(found)


def _index(names: list[tuple[str, str]]) -> pd.MultiIndex:
    return pd.MultiIndex.from_tuples(names, names=["prefix", "label"])
