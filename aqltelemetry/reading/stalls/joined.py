"""Joins the stalls of event loops with their details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.stalls.details import Details, StallKey
from aqltelemetry.reading.summaries.recorded_time import lengths_ns
from aqltelemetry.system.later import pd

_TEXTS = (
    *("file", "function", "innermost", "waits_for", "thread", "task", "coroutine"),
    *("request", "in_thread", "route", "waits_on", "thread_line"),
)
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("line", "looks", "steps", "major_faults"), np.int64),
    **dict.fromkeys(("votes", "cpu_s", "run_delay_s", "gc_generation"), np.float64),
    **dict.fromkeys(("is_exact", "is_ended"), np.bool_),
}
_OBJECTS = ("shares", "callbacks", "blocks")


def stalls(rows: Rows, details: Mapping[StallKey, Sequence[Details]]) -> pd.DataFrame:
    """Return a row for each stall, in order of time; see `Tables.stalls`."""
    chosen = np.argsort(rows.timepoints_ns, kind="stable")
    ends_ns, lengths_s = rows.timepoints_ns[chosen], rows.measurements[chosen]
    begins_ns = ends_ns - lengths_ns(lengths_s)
    processes = [rows.processes[code] for code in rows.process_codes[chosen].tolist()]
    causes = [rows.labels[code] for code in rows.label_codes[chosen].tolist()]
    used: dict[StallKey, int] = {}
    known = []
    for process, cause, length_s, begin_ns, end_ns in zip(
        processes, causes, lengths_s.tolist(), begins_ns.tolist(), ends_ns.tolist(), strict=True
    ):
        key = StallKey.of(process.pid, process.writer, cause, length_s)
        same, number = details.get(key, ()), used.get(key, 0)
        used[key] = number + 1
        known.append(same[number] if number < len(same) else Details(begin_ns, end_ns))
    return pd.DataFrame(
        {
            "begin": pd.DatetimeIndex(np.array([each.begin_ns for each in known], np.int64)),
            "earliest": pd.DatetimeIndex(
                np.array([each.earliest_ns or each.begin_ns for each in known], np.int64)
            ),
            "end": pd.DatetimeIndex(np.array([each.end_ns for each in known], np.int64)),
            "length_s": lengths_s,
            "cause": texts(causes),
            "pid": np.array([process.pid for process in processes], np.int64),
            "writer": texts([process.writer for process in processes]),
            **{name: texts([getattr(each, name) for each in known]) for name in _TEXTS},
            **{
                name: np.array([getattr(each, name) for each in known], kind)
                for name, kind in _KINDS.items()
            },
            **{
                name: pd.Series([getattr(each, name) for each in known], dtype=object)
                for name in _OBJECTS
            },
        }
    )


def texts(values: Sequence[str]) -> Any:
    """Return texts as an array for a DataFrame."""
    return pd.array(list(values), dtype="str")
