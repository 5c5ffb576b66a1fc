"""Summarizes each recorded process: what it did, and in which condition it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.outcomes import OUTCOMES, roles
from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.reading.summaries.basis import Basis
from aqltelemetry.reading.summaries.cells import CellGroups, Cells
from aqltelemetry.reading.summaries.drops import PID_LEVEL, WRITER_LEVEL, dropped
from aqltelemetry.reading.summaries.groups import Groups
from aqltelemetry.reading.summaries.recorded_time import Span
from aqltelemetry.reading.writers import UNKNOWN
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.later import pd

_SERVER_ERROR = OUTCOMES.index("5xx")
_PERCENT = 100.0
_END_NS = 2**63 - 1
_Columns = Mapping[str, npt.NDArray[Any]]


def workers(basis: Basis, states: Mapping[Process, str]) -> pd.DataFrame:
    """Return a row for each process; see `Tables.workers`.

    `states` are the states of recordings, by process; unknown for any that is missing.
    """
    names, runtime = basis.names, basis.runtime
    processes, recorded = runtime.processes, basis.spans
    known = [recorded.get(code, Span(0, 0)) for code in range(len(processes))]
    table = {
        "begin": pd.DatetimeIndex([span.begin_ns for span in known]),
        "end": pd.DatetimeIndex([span.end_ns for span in known]),
        "state": _states(processes, {key.named(names): states[key] for key in states}),
        **_durations(basis.cells, np.array([span.recorded_s for span in known])),
        **_sampled(runtime),
    }
    index = pd.MultiIndex.from_arrays(
        [
            np.array([process.pid for process in processes], np.int64),
            pd.array([process.writer for process in processes], dtype="str"),
        ],
        names=[PID_LEVEL, WRITER_LEVEL],
    )
    drops = dropped(basis.accounts, runtime).groupby(level=[PID_LEVEL, WRITER_LEVEL]).sum()
    table["dropped"] = drops.reindex(index, fill_value=0).to_numpy(np.int64)
    return pd.DataFrame(table, index).iloc[sorted(recorded)]


def _states(processes: Sequence[Process], states: Mapping[Process, str]) -> Any:
    return pd.array([states.get(process, UNKNOWN) for process in processes], dtype="str")


def _durations(cells: Cells, recorded_s: npt.NDArray[np.float64]) -> _Columns:
    """Return the columns about durations, each request counted once."""
    known, size = roles(cells.labels), len(cells.processes)
    is_part = known.is_part[cells.label_codes]
    groups = cells.grouped(np.where(is_part, -1, cells.process_codes))
    counts = np.zeros(size, np.int64)
    counts[groups.keys] = groups.counts
    median, high = (_placed(groups, column, size) for column in groups.quantiles([0.5, 0.99]).T)
    failed = (known.outcomes == _SERVER_ERROR)[cells.label_codes]
    errors = np.bincount(cells.process_codes[failed], cells.counts[failed], minlength=size)
    return {
        "count": counts,
        "per_s": counts / recorded_s,
        "p50_s": median,
        "p99_s": high,
        "errors_5xx": errors.astype(np.int64),
    }


def _sampled(runtime: Rows) -> _Columns:
    size = len(runtime.processes)

    def groups(label: str) -> Groups:
        rows = runtime.of_label(label)
        rows = rows[np.argsort(rows.timepoints_ns, kind="stable")]
        return Groups(rows.process_codes, rows.measurements)

    def last(label: str) -> npt.NDArray[np.float64]:
        found = groups(label)
        return _placed(found, found.last(), size)

    pauses, rss, lag = groups("gc pause"), groups("rss"), groups("event loop lag")
    collections = last("gc collections")
    # If the collector was sampled, no pause counts as 0.
    no_pause = np.where(np.isnan(collections), np.nan, 0.0)
    return {
        "in_flight": last("requests in flight"),
        "gc_collections": collections,
        "gc_pauses": _placed(pauses, pauses.counts, size, no_pause),
        "gc_pause_s": _placed(pauses, pauses.sum(), size, no_pause),
        "gc_pause_max_s": _placed(pauses, pauses.max(), size),
        "cpu_s": last("user time") + last("system time"),
        "cpu_percent": _cpu_percent(runtime),
        "rss_bytes": _placed(rss, rss.last(), size),
        "rss_max_bytes": _placed(rss, rss.max(), size),
        "lag_p99_s": _placed(lag, lag.quantiles([0.99])[:, 0], size),
        "lag_max_s": _placed(lag, lag.max(), size),
    }


def _cpu_percent(runtime: Rows) -> npt.NDArray[np.float64]:
    """Return the CPU time between the first and the last sample, divided by that time."""
    size = len(runtime.processes)
    used_s, passed_s = np.zeros(size), np.full(size, np.nan)
    for label in ("user time", "system time"):
        rows = runtime.of_label(label)
        rows = rows[np.argsort(rows.timepoints_ns, kind="stable")]
        used = Groups(rows.process_codes, rows.measurements)
        used_s += _placed(used, used.last() - used.first(), size)
        since_first_s = (rows.timepoints_ns - rows.timepoints_ns.min(initial=_END_NS)) / NS_PER_S
        times = Groups(rows.process_codes, since_first_s)
        passed_s = _placed(times, times.last() - times.first(), size)
    passed_s[passed_s <= 0] = np.nan
    percent: npt.NDArray[np.float64] = _PERCENT * used_s / passed_s
    return percent


def _placed(
    groups: Groups | CellGroups, figures: npt.NDArray[Any], size: int, default: Any = np.nan
) -> npt.NDArray[np.float64]:
    """Return a figure for each of `size` processes, `default` where it has no group."""
    placed = np.full(size, default, np.float64)
    placed[groups.keys] = figures
    return placed
