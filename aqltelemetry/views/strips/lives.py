"""Finds the processes of a recording: from when to when each recorded, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aqltelemetry.observation import ACCOUNT, DURATION, RUNTIME
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.reading.summaries.drops import recordings
from aqltelemetry.reading.summaries.recorded_time import Span, spans
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
    writers: Mapping[str, str]
    """Replaces some writers of processes: a forked child that has several is one process."""


class _Part(NamedTuple):
    """What is known of a part of the durations."""

    rows: Rows
    spans: Mapping[Process, Span]
    counts: Mapping[Process, int]


class Lives:
    """Finds the processes of a recording; parts that it has seen before cost nothing."""

    def __init__(self) -> None:
        self._known: dict[int, _Part] = {}

    def recorded(self, db: TelemetryDB) -> Recorded:
        """Return the observations and the processes of a recording."""
        writers = recordings(db.rows(ACCOUNT))
        durations, runtime = db.parts(DURATION), db.rows(RUNTIME)
        self._known = {id(rows): self._known.get(id(rows)) or _part(rows) for rows in durations}
        sampled = spans(runtime[:0], runtime)
        found: dict[Process, Span] = {}
        _extend(found, {runtime.processes[code]: span for code, span in sampled.items()}, writers)
        counts: Counter[Process] = Counter()
        for part in self._known.values():
            _extend(found, part.spans, writers)
            for process, count in part.counts.items():
                counts[process.named(writers)] += count
        states = _states(db, writers)
        lives = [
            Life(process, states.get(process, UNKNOWN), *span, counts[process])
            for process, span in found.items()
        ]
        lives.sort(key=lambda life: (-life.durations, life.begin_ns, life.process))
        return Recorded(durations, runtime, lives, writers)


def recorded(db: TelemetryDB) -> Recorded:
    """Return the observations and the processes of a recording."""
    return Lives().recorded(db)


def _part(rows: Rows) -> _Part:
    counts = np.bincount(rows.process_codes, minlength=len(rows.processes)).tolist()
    found = spans(rows, rows[:0]).items()
    return _Part(
        rows,
        {rows.processes[code]: span for code, span in found},
        dict(zip(rows.processes, counts, strict=True)),
    )


def _extend(
    found: dict[Process, Span], more: Mapping[Process, Span], writers: Mapping[str, str]
) -> None:
    """Extend the spans of processes by those in others."""
    for process, (begin_ns, end_ns) in more.items():
        name = process.named(writers)
        known = found.get(name, Span(begin_ns, end_ns))
        found[name] = Span(min(known.begin_ns, begin_ns), max(known.end_ns, end_ns))


def _states(db: TelemetryDB, names: Mapping[str, str]) -> Mapping[Process, str]:
    found = db.writers()
    return {
        Process(int(pid), str(writer)).named(names): str(state)
        for (pid, writer), state in zip(found.index, found["state"], strict=True)
    }
