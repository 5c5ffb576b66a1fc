"""Joins durations with their CPU times: how much of each ran on a processor.

A CPU time has the label, the process and the timepoint of its duration.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.system.later import pd

_Floats: TypeAlias = npt.NDArray[np.float64]
_Times: TypeAlias = npt.NDArray[np.int64]
_Mask: TypeAlias = npt.NDArray[np.bool_]


def shares_of(durations: pd.DataFrame, cpu: Rows) -> _Floats:
    """Return the part of each duration that ran on a processor; NaN if it was not recorded.

    Args:
        durations: What `slowest` returns.
        cpu: The CPU times.
    """
    found = np.full(len(durations), np.nan)
    if not len(cpu) or not len(durations):
        return found
    ends_ns = durations["end"].to_numpy("datetime64[ns]").view(np.int64)
    cpu = cpu[np.isin(cpu.timepoints_ns, ends_ns)]
    seconds = {
        (at_ns, cpu.labels[label], cpu.processes[process]): value
        for at_ns, label, process, value in zip(
            cpu.timepoints_ns.tolist(),
            cpu.label_codes.tolist(),
            cpu.process_codes.tolist(),
            cpu.measurements.tolist(),
            strict=True,
        )
    }
    columns = (durations[name].tolist() for name in ("label", "pid", "writer"))
    keys = zip(ends_ns.tolist(), *columns, strict=True)
    for row, (at_ns, label, pid, writer) in enumerate(keys):
        found[row] = seconds.get((at_ns, label, Process(pid, writer)), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: _Floats = found / durations["duration_s"].to_numpy()
    return shares


def shares_by_label(durations: Cells, cpu: Cells) -> pd.DataFrame:
    """Return the sums of the durations with CPU times; see `Tables.cpu_shares`."""
    rows: dict[str, list[float]] = {}
    places = {
        (durations.labels[label], durations.processes[process]): number
        for number, (label, process) in enumerate(
            zip(durations.label_codes.tolist(), durations.process_codes.tolist(), strict=True)
        )
    }
    codes = zip(cpu.label_codes.tolist(), cpu.process_codes.tolist(), strict=True)
    for number, (label, process) in enumerate(codes):
        name = cpu.labels[label]
        other = places.get((name, cpu.processes[process]))
        if other is None:
            continue
        of_cpu, of_all = _cell(cpu, number), _cell(durations, other)
        has_cpu, has_duration = _common(of_all[0], of_cpu[0])
        sums = rows.setdefault(name, [0.0, 0.0, 0.0])
        sums[0] += np.count_nonzero(has_cpu)
        sums[1] += np.nansum(of_all[1][has_cpu])
        sums[2] += np.nansum(of_cpu[1][has_duration])
    found = pd.DataFrame(
        [*rows.values()],
        pd.Index([*rows], dtype="str", name="label"),
        ["count", "duration_s", "cpu_s"],
        dtype=np.float64,
    ).astype({"count": np.int64})
    found["cpu_share"] = found["cpu_s"] / found["duration_s"]
    return found.sort_values("cpu_s", ascending=False, kind="stable")


def _cell(cells: Cells, number: int) -> tuple[_Times, _Floats]:
    own = slice(int(cells.begins[number]), int(cells.ends[number]))
    return cells.timepoints_ns[own], cells.measurements[own]


def _common(first: _Times, second: _Times) -> tuple[_Mask, _Mask]:
    """Return which times of two arrays are in the other one too."""
    if np.array_equal(first, second):
        every = np.ones(len(first), dtype=bool)
        return every, every
    return np.isin(first, second), np.isin(second, first)
