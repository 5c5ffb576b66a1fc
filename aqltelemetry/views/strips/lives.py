"""Finds the processes of a recording: from when to when each recorded, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aqltelemetry.observation import ACCOUNT, DURATION, RUNTIME
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.rows import Process, Rows, with_shared_processes
from aqltelemetry.reading.summaries.drops import recordings
from aqltelemetry.reading.summaries.recorded_time import spans
from aqltelemetry.reading.writers import UNKNOWN


class Life(NamedTuple):
    """One process of a recording."""

    process: Process
    state: str
    """`running`, `stopped`, `killed` or `unknown`; see `TelemetryDB.writers`."""
    begin_ns: int
    """The first instant of its recording that is known, in nanoseconds since the epoch."""
    end_ns: int
    """The last one."""
    durations: int
    """How many durations it recorded."""


class Recorded(NamedTuple):
    """What strips are made of."""

    durations: Sequence[Rows]
    """All durations, in parts."""
    runtime: Rows
    """The observations of the built-in samplers."""
    lives: list[Life]
    """All processes, those with the most durations first."""


def recorded(db: TelemetryDB) -> Recorded:
    """Return the observations and the processes of a recording.

    A forked child that has several writers is one process.
    """
    names = recordings(db.rows(ACCOUNT))
    durations, runtime = with_shared_processes([db.rows(DURATION), db.rows(RUNTIME)], names)
    counts = np.bincount(durations.process_codes, minlength=len(durations.processes))
    states = _states(db, names)
    lives = [
        Life(process, states.get(process, UNKNOWN), *span, int(counts[code]))
        for code, span in spans(durations, runtime).items()
        for process in [durations.processes[code]]
    ]
    lives.sort(key=lambda life: (-life.durations, life.begin_ns, life.process))
    return Recorded([durations], runtime, lives)


def _states(db: TelemetryDB, names: Mapping[str, str]) -> Mapping[Process, str]:
    found = db.writers()
    return {
        Process(int(pid), str(writer)).named(names): str(state)
        for (pid, writer), state in zip(found.index, found["state"], strict=True)
    }
