"""Finds the longest durations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from aqltelemetry.reading.outcomes import OUTCOMES, Roles, roles
from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.summaries.recorded_time import lengths_ns

_Indexes = npt.NDArray[np.intp]


def slowest(rows: Rows, number: int) -> pd.DataFrame:
    """Return the longest durations; see `Tables.slowest`.

    Outcomes and times to the first byte do not count.
    """
    known = roles(rows.labels)
    found = _longest(rows, number, ~known.is_part)
    ends_ns, durations_s = rows.timepoints_ns[found], rows.measurements[found]
    processes = [rows.processes[code] for code in rows.process_codes[found].tolist()]
    return pd.DataFrame(
        {
            "begin": pd.DatetimeIndex(ends_ns - lengths_ns(durations_s)),
            "end": pd.DatetimeIndex(ends_ns),
            "duration_s": durations_s,
            "label": _texts([rows.labels[code] for code in rows.label_codes[found].tolist()]),
            "pid": np.array([process.pid for process in processes], np.int64),
            "writer": _texts([process.writer for process in processes]),
            "outcome": _texts(_outcomes(rows, found, known)),
        }
    )


def _longest(rows: Rows, number: int, is_wanted: npt.NDArray[np.bool_]) -> _Indexes:
    """Return the indexes of the longest durations of these labels; the longest comes first."""
    lengths_s = rows.measurements
    mask = ~np.isnan(lengths_s) & is_wanted[rows.label_codes]
    candidates = np.flatnonzero(mask)
    if not 0 < number < len(candidates):
        candidates = candidates[: max(number, 0)] if number <= 0 else candidates
    else:
        wanted = lengths_s[candidates]
        least_s = np.partition(wanted, len(wanted) - number)[len(wanted) - number]
        candidates = candidates[wanted >= least_s]
    order = np.lexsort((rows.timepoints_ns[candidates], -lengths_s[candidates]))
    return candidates[order[:number]]


def _outcomes(rows: Rows, found: _Indexes, known: Roles) -> list[str]:
    """Return the outcome of each of these rows, recorded at the same time, or ""."""
    candidates = np.flatnonzero(known.outcomes[rows.label_codes] >= 0)
    of_same_time = np.isin(rows.timepoints_ns[candidates], rows.timepoints_ns[found])
    words = {}
    for row in candidates[of_same_time].tolist():
        label = int(rows.label_codes[row])
        words[_identity(rows, row, int(known.bases[label]))] = OUTCOMES[known.outcomes[label]]
    return [words.get(_identity(rows, row, int(rows.label_codes[row])), "") for row in found]


def _identity(rows: Rows, row: int, label: int) -> tuple[int, int, float, int]:
    process, at_ns = int(rows.process_codes[row]), int(rows.timepoints_ns[row])
    return label, process, float(rows.measurements[row]), at_ns


def _texts(values: list[str]) -> Any:
    return pd.array(values, dtype="str")
