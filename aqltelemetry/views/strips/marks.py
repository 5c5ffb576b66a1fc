"""Finds the events of a recording: starts, ends and kills, drops, clock steps, switches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from aqltelemetry.journal.counters import TORN
from aqltelemetry.observation import ACCOUNT, RUNTIME
from aqltelemetry.quantities import counted
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.reading.summaries.drops import recordings
from aqltelemetry.reading.writers import KILLED, STOPPED
from aqltelemetry.sinks.account import DROPPED
from aqltelemetry.views.strips.cells import Span
from aqltelemetry.views.strips.lives import Life

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
        for mark in (*_ends(lives), *_sampled(db.rows(RUNTIME)), *_drops(db))
        if span.begin_ns <= mark.at_ns <= span.end_ns
    ]
    found.sort(key=lambda mark: _BY_IMPORTANCE.index(mark.kind))
    return sorted(found[:MAX_MARKS])


def _ends(lives: Sequence[Life]) -> Iterator[Mark]:
    for life in lives:
        pid = life.process.pid
        yield Mark(life.begin_ns, START, pid, f"worker {pid} starts")
        if life.state == KILLED:
            yield Mark(life.end_ns, KILL, pid, f"worker {pid} was killed")
        elif life.state == STOPPED:
            yield Mark(life.end_ns, STOP, pid, f"worker {pid} stops")


class _Event(NamedTuple):
    at_ns: int
    label: str
    value: float
    process: Process


def _events(rows: Rows, labels: Collection[str]) -> Iterator[_Event]:
    """Yield the observations of a few labels."""
    found = rows.of_labels(labels)
    columns = (found.timepoints_ns, found.label_codes, found.measurements, found.process_codes)
    for at_ns, label, value, process in zip(*columns, strict=True):
        yield _Event(int(at_ns), rows.labels[label], float(value), rows.processes[process])


def _sampled(runtime: Rows) -> Iterator[Mark]:
    """Yield clock steps and switches."""
    for at_ns, label, value, (pid, _) in _events(runtime, (_SAMPLED_STEP, _SAMPLED_SWITCH)):
        if label == _SAMPLED_STEP:
            text = f"the clock of worker {pid} stepped by {value:+.3g} s"
            yield Mark(at_ns, CLOCK_STEP, pid, text)
        else:
            kind = SWITCHED_ON if value else SWITCHED_OFF
            yield Mark(at_ns, kind, pid, f"worker {pid}: recording {kind}")


def _drops(db: TelemetryDB) -> Iterator[Mark]:
    """Yield an event for each increase of a total of dropped observations."""
    last: dict[tuple[str, str], float] = {}
    for at_ns, reason, total, (pid, writer) in sorted(_totals(db)):
        dropped = total - last.get((writer, reason), 0)
        if dropped > 0:
            last[writer, reason] = total
            text = f"worker {pid} dropped {counted(round(dropped), 'observation')} ({reason})"
            yield Mark(at_ns, DROP, pid, text)


def _totals(db: TelemetryDB) -> Iterator[_Event]:
    """Yield each known total of dropped observations, with its reason as the label."""
    accounts = db.rows(ACCOUNT)
    names = recordings(accounts)
    for prefix, rows in ((_SAMPLED_DROPS, db.rows(RUNTIME)), (DROPPED, accounts)):
        torn: Counter[Process] = Counter()
        for event in _events(rows, [label for label in rows.labels if label.startswith(prefix)]):
            reason, process = event.label.removeprefix(prefix), event.process.named(names)
            value = event.value
            if reason == TORN and rows is accounts:  # counted per account, unlike the others
                torn[process] += round(value)
                value = torn[process]
            yield _Event(event.at_ns, reason, value, process)
