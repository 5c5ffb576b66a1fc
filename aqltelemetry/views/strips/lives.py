"""Finds the processes of a recording: from when to when each recorded, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aqltelemetry.observation import ACCOUNT, LABEL, MEASUREMENT, PID
from aqltelemetry.reading.csv_frames import WRITER
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.views.strips.rows import Process, times_ns

if TYPE_CHECKING:
    import pandas as pd


class Life(NamedTuple):
    """One process of a recording."""

    pid: int
    writer: str
    state: str
    """`running`, `stopped`, `killed` or `unknown`."""
    begin_ns: int
    """The first instant of its recording that is known, in nanoseconds since the epoch."""
    end_ns: int
    """The last one."""
    durations: int
    """How many durations it recorded."""

    @property
    def process(self) -> Process:
        """What identifies the process in the rows."""
        return self.pid, self.writer


def lives(db: TelemetryDB) -> list[Life]:
    """Return all processes, those with the most durations first."""
    durations, runtime = db.duration().data_by_process(), db.runtime().data_by_process()
    spans: dict[Process, list[int]] = {}
    for number, frame in enumerate((durations, runtime)):
        for process, (begin, end, count) in _spans(frame).items():
            known = spans.setdefault(process, [begin, end, 0])
            spans[process] = [
                min(known[0], begin),
                max(known[1], end),
                known[2] + (0 if number else count),
            ]
    ends = _ends(db)
    found = [
        Life(pid, writer, ends.get(writer, "unknown"), begin, end, count)
        for (pid, writer), (begin, end, count) in spans.items()
    ]
    return sorted(found, key=lambda life: (-life.durations, life.begin_ns, life.pid))


def _spans(frame: pd.DataFrame) -> dict[Process, tuple[int, int, int]]:
    times = times_ns(frame)
    grouped = frame.assign(times=times).groupby([PID, WRITER], observed=True)["times"]
    table = grouped.agg(["min", "max", "count"])
    return {
        (int(pid), str(writer)): (int(row[0]), int(row[1]), int(row[2]))
        for (pid, writer), row in zip(table.index, table.to_numpy(), strict=True)
    }


def _ends(db: TelemetryDB) -> dict[str, str]:
    """Return how the recording of each writer ended, where an account states it."""
    frame = db.frame(ACCOUNT).data_by_process()
    rows = frame[frame[LABEL] == "end"]
    return {
        str(writer): "stopped" if value else "killed"
        for writer, value in zip(rows[WRITER], rows[MEASUREMENT], strict=True)
    }
