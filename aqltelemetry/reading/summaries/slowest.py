"""Finds the longest durations."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.outcomes import OUTCOMES, roles
from aqltelemetry.reading.stalls.joined import texts
from aqltelemetry.reading.stalls.overlaps import Overlaps
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.reading.summaries.recorded_time import lengths_ns
from aqltelemetry.system.later import pd

_BLOCK_ROWS = 4096
_Indexes = npt.NDArray[np.intp]
_OutcomesOf = Mapping[int, Mapping[int, str]]


def slowest(
    cells: Cells, number: int, overlaps: Overlaps, labels: Collection[str] | None = None
) -> pd.DataFrame:
    """Return the longest durations, of all labels or of some; see `Tables.slowest`.

    Outcomes and times to the first byte do not count.
    """
    codes = [code for code, label in enumerate(cells.labels) if labels is None or label in labels]
    # Without the other labels, a first byte is no part.
    known = roles([cells.labels[code] for code in codes])
    is_wanted = np.zeros(len(cells.labels), dtype=bool)
    is_wanted[codes] = ~known.is_part
    outcomes: dict[int, dict[int, str]] = {}
    for code, base, word in zip(codes, known.bases, known.outcomes, strict=True):
        if word >= 0:
            outcomes.setdefault(codes[base], {})[code] = OUTCOMES[word]
    found = _longest(cells, number, is_wanted)
    of = np.searchsorted(cells.ends, found, "right")
    ends_ns, durations_s = cells.timepoints_ns[found], cells.measurements[found]
    begins_ns = ends_ns - lengths_ns(durations_s)
    processes = [cells.processes[code] for code in cells.process_codes[of].tolist()]
    return pd.DataFrame(
        {
            "begin": pd.DatetimeIndex(begins_ns),
            "end": pd.DatetimeIndex(ends_ns),
            "duration_s": durations_s,
            "label": texts([cells.labels[code] for code in cells.label_codes[of].tolist()]),
            "pid": np.array([process.pid for process in processes], np.int64),
            "writer": texts([process.writer for process in processes]),
            "outcome": texts([_outcome(cells, int(row), outcomes) for row in found]),
            **overlaps.columns(processes, begins_ns, ends_ns),
        }
    )


def _longest(cells: Cells, number: int, is_wanted: npt.NDArray[np.bool_]) -> _Indexes:
    """Return the places of the longest durations of these labels; the longest comes first."""
    if number <= 0 or not len(cells):
        return np.empty(0, np.intp)
    starts = np.union1d(cells.begins, np.arange(0, len(cells), _BLOCK_ROWS))
    ends = np.append(starts[1:], len(cells))
    largest_s = np.fmax.reduceat(cells.measurements, starts)
    of = np.searchsorted(cells.ends, starts, "right")
    chosen = is_wanted[cells.label_codes[of]] & ~np.isnan(largest_s)
    least_s = -np.inf
    if np.count_nonzero(chosen) > number:  # then so many durations are as long as this
        least_s = np.partition(largest_s[chosen], -number)[-number]
        chosen &= largest_s >= least_s
    places = [
        begin + np.flatnonzero(cells.measurements[begin:end] >= least_s)
        for begin, end in zip(starts[chosen].tolist(), ends[chosen].tolist(), strict=True)
    ]
    found = np.concatenate([np.empty(0, np.intp), *places])
    order = np.lexsort((cells.timepoints_ns[found], -cells.measurements[found]))
    return found[order[:number]]


def _outcome(cells: Cells, row: int, outcomes: _OutcomesOf) -> str:
    """Return the outcome of a duration, recorded at the same time, or ""."""
    cell = int(np.searchsorted(cells.ends, row, "right"))
    word = ""
    for code, each in outcomes.get(int(cells.label_codes[cell]), {}).items():
        is_of = (cells.label_codes == code) & (cells.process_codes == cells.process_codes[cell])
        for other in np.flatnonzero(is_of).tolist():
            own = slice(int(cells.begins[other]), int(cells.ends[other]))
            same = cells.timepoints_ns[own] == cells.timepoints_ns[row]
            if np.any(cells.measurements[own][same] == cells.measurements[row]):
                word = each
    return word
