"""Describes the recordings in a directory: their processes, times and states."""

from __future__ import annotations

import pandas as pd

from aqltelemetry.observation import LABEL, MEASUREMENT, PID
from aqltelemetry.reading.rows import WRITER
from aqltelemetry.reading.sources import Sources
from aqltelemetry.sinks.account import END

RUNNING = "running"
STOPPED = "stopped"
KILLED = "killed"
UNKNOWN = "unknown"


def describe_writers(sources: Sources, accounts: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each recording; see `TelemetryDB.writers`.

    `accounts` are the accounts of `sources`, as `TelemetryFrame.data_by_process` returns them.
    """
    spans = sources.spans_ns()
    index = pd.MultiIndex.from_tuples(sorted(spans), names=[PID, WRITER])
    ends = accounts[accounts[LABEL] == END].astype({WRITER: str}).groupby(WRITER)[MEASUREMENT].max()
    in_journal = {segment.writer for segment in sources.segments}
    times = [spans[key] for key in index]

    def state(writer: str) -> str:
        if writer in ends.index:
            return STOPPED if ends[writer] else KILLED
        if writer in sources.running:
            return RUNNING
        return KILLED if writer in in_journal else UNKNOWN

    return pd.DataFrame(
        {
            "begin": pd.to_datetime([begin for begin, _ in times]),
            "end": pd.to_datetime([end for _, end in times]),
            "state": [state(writer) for _, writer in index],
        },
        index=index,
    )
