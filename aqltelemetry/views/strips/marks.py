"""Finds the events of a recording: starts, ends and kills, drops, clock steps, switches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aqltelemetry.observation import ACCOUNT, LABEL, MEASUREMENT, PID
from aqltelemetry.quantities import counted
from aqltelemetry.reading.csv_frames import WRITER
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.sinks.account import DROPPED
from aqltelemetry.views.strips.cells import Span
from aqltelemetry.views.strips.lives import Life
from aqltelemetry.views.strips.rows import times_ns

START = "start"
STOP = "stop"
KILL = "kill"
DROP = "drop"
CLOCK_STEP = "clock step"
SWITCHED_OFF = "switched off"
SWITCHED_ON = "switched on"
MAX_MARKS = 200
# Where there are too many, those of the last kinds are left out.
_BY_IMPORTANCE = (KILL, DROP, CLOCK_STEP, SWITCHED_OFF, SWITCHED_ON, STOP, START)
_SAMPLED_DROPS = "telemetry dropped "
_SAMPLED_STEP = "telemetry clock step"
_SAMPLED_SWITCH = "telemetry switched on"


class Mark(NamedTuple):
    """An event of a recording."""

    at_ns: int
    """When it happened, in nanoseconds since the epoch."""
    kind: str
    pid: int
    text: str
    """A short phrase, such as `worker 4123 was killed`."""


def marks(db: TelemetryDB, lives: Sequence[Life], span: Span) -> list[Mark]:
    """Return the events in a span, by time, `MAX_MARKS` at most."""
    found = [
        mark
        for mark in (*_ends(lives), *_sampled(db), *_drops(db))
        if span.begin_ns <= mark.at_ns <= span.end_ns
    ]
    found.sort(key=lambda mark: _BY_IMPORTANCE.index(mark.kind))
    return sorted(found[:MAX_MARKS])


def _ends(lives: Sequence[Life]) -> Iterator[Mark]:
    for life in lives:
        yield Mark(life.begin_ns, START, life.pid, f"worker {life.pid} starts")
        if life.state == "killed":
            yield Mark(life.end_ns, KILL, life.pid, f"worker {life.pid} was killed")
        elif life.state == "stopped":
            yield Mark(life.end_ns, STOP, life.pid, f"worker {life.pid} stops")


def _sampled(db: TelemetryDB) -> Iterator[Mark]:
    """Yield clock steps and switches."""
    frame = db.runtime().data()
    frame = frame[frame[LABEL].isin((_SAMPLED_STEP, _SAMPLED_SWITCH))]
    columns = (times_ns(frame), frame[LABEL], frame[MEASUREMENT], frame[PID])
    for at_ns, label, value, pid in zip(*columns, strict=True):
        if label == _SAMPLED_STEP:
            text = f"the clock of worker {pid} stepped by {value:+.3g} s"
            yield Mark(int(at_ns), CLOCK_STEP, int(pid), text)
        else:
            kind = SWITCHED_ON if value else SWITCHED_OFF
            yield Mark(int(at_ns), kind, int(pid), f"worker {pid}: recording {kind}")


def _drops(db: TelemetryDB) -> Iterator[Mark]:
    """Yield an event for each increase of a total of dropped observations."""
    last: dict[tuple[str, str], float] = {}
    for at_ns, total, reason, pid, writer in sorted(_totals(db)):
        dropped = total - last.get((writer, reason), 0)
        if dropped > 0:
            last[writer, reason] = total
            text = f"worker {pid} dropped {counted(round(dropped), 'observation')} ({reason})"
            yield Mark(at_ns, DROP, pid, text)


def _totals(db: TelemetryDB) -> Iterator[tuple[int, float, str, int, str]]:
    """Yield each known total of dropped observations, of a process and a reason."""
    for prefix, frame in (
        (_SAMPLED_DROPS, db.runtime().data_by_process()),
        (DROPPED, db.frame(ACCOUNT).data_by_process()),
    ):
        names = [str(name) for name in frame[LABEL].cat.categories]
        known = np.array([name.startswith(prefix) for name in names], dtype=bool)
        frame = frame[known[frame[LABEL].cat.codes.to_numpy()]]  # noqa: PLW2901
        columns = (times_ns(frame), frame[MEASUREMENT], frame[LABEL], frame[PID], frame[WRITER])
        for at_ns, total, label, pid, writer in zip(*columns, strict=True):
            yield int(at_ns), float(total), str(label).removeprefix(prefix), int(pid), str(writer)
