"""The rules about the recording and its processes: kills, drops, steps of the clock, gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from aqltelemetry.journal.counters import TORN
from aqltelemetry.quantities import counted
from aqltelemetry.sinks.account import DROPPED
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import labels, wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Recorded, Worker
from aqltelemetry.views.findings.rule import Rule

KILLED = "killed"
DROPS = "drops"
CLOCK = "clock step"
OFF = "switched off"
MEMORY_ONLY = "not crash-proof"
SAME_STEP_S = 3.0
"""Steps of the clock this close to each other are one: a step back is followed second by second,
and all processes of a machine record it."""
SAME_SWITCH_S = 2.0
"""Recordings that were switched within this time were switched by the same command."""


def _find_killed(recorded: Recorded) -> Iterator[Finding]:
    """Look for processes that ended without stopping their recording.

    Their last account says so (`end` is 0), as it is written by the process that recovered the
    journal, or the journal is without an owner.
    """
    for worker in recorded.workers:
        killed_ns = recorded.killed_ns(worker)
        if killed_ns is None:
            continue
        figures = {"recorded_s": worker.seconds}
        said = []
        in_flight = recorded.samples_of(worker, labels.IN_FLIGHT).values
        if len(in_flight):
            figures["in_flight"] = float(in_flight[-1])
            said.append(f"{counted(round(in_flight[-1]), 'request')} in progress")
        rss = recorded.samples_of(worker, labels.RSS).values
        if len(rss):
            figures["rss_bytes"] = float(rss[-1])
            said.append(f"{wording.size(float(rss[-1]))} of memory")
        at = recorded.calendar.at(killed_ns)
        last = f"; its last sample: {wording.listed(said)}" if said else ""
        text = (
            f"Worker {worker.pid} ended at {at} without stopping its recording, as if killed{last}."
        )
        yield Finding(KILLED, text, Severity.ERROR, None, worker.pid, killed_ns, killed_ns, figures)


def _find_drops(recorded: Recorded) -> Iterator[Finding]:
    """Add up the observations that were dropped, by reason.

    For each worker and reason: the larger one of the accounts' and of the last sample of
    `telemetry dropped <reason>`, which are totals; those of `torn` are a number for each account.
    """
    totals: dict[str, dict[Worker, int]] = {}
    times: dict[str, list[int]] = {}

    def add(reason: str, worker: Worker, count: float, times_ns: Sequence[int]) -> None:
        of = totals.setdefault(reason, {})
        of[worker] = max(of.get(worker, 0), round(count))
        times.setdefault(reason, []).extend(times_ns)

    for worker, rows in recorded.accounts.items():
        for label in {row[0] for row in rows if row[0].startswith(DROPPED)}:
            reason = label.removeprefix(DROPPED)
            counts = [row[1] for row in rows if row[0] == label]
            total = sum(counts) if reason == TORN else max(counts)
            add(reason, worker, total, [row[2] for row in rows if row[0] == label])
    for label in recorded.sampled_labels:
        if label.startswith(labels.DROPPED):
            for worker, samples in recorded.samples(label):
                reason = label.removeprefix(labels.DROPPED)
                bounds = [int(samples.times_ns[0]), int(samples.times_ns[-1])]
                add(reason, worker, float(samples.values.max()), bounds)
    for reason, of in totals.items():
        if any(of.values()):
            yield _drops(recorded, reason, of, times[reason])


def _drops(
    recorded: Recorded, reason: str, of: dict[Worker, int], times_ns: Sequence[int]
) -> Finding:
    workers = [worker for worker, count in of.items() if count]
    count = sum(of.values())
    recorded_count = sum(len(route) for route in recorded.routes) + count
    where = f"worker {workers[0].pid}" if len(workers) == 1 else f"{len(workers)} workers"
    text = f"{counted(count, 'observation')} of {where} dropped: {reason}."
    text = text.replace(" dropped", " was dropped" if count == 1 else " were dropped", 1)
    return Finding(
        DROPS,
        text,
        Severity.ERROR,
        None,
        workers[0].pid if len(workers) == 1 else None,
        min(times_ns),
        max(times_ns),
        {"count": float(count), "workers": float(len(workers)), "share": count / recorded_count},
        weight=float(count),
    )


def _find_steps(recorded: Recorded) -> Iterator[Finding]:
    """Look for steps of the wall clock by more than 50 ms, which recordings note.

    Notes of the same direction that follow each other within three seconds are one step, of all
    processes; the largest is its size. A suspended machine looks like a step forward.
    """
    notes = sorted(
        (int(at_ns), float(step_s), worker.pid)
        for worker, samples in recorded.samples(labels.CLOCK_STEP)
        for at_ns, step_s in zip(*samples, strict=True)
    )
    steps: list[list[tuple[int, float, int]]] = []
    for note in notes:
        for step in steps:
            is_near = note[0] - step[-1][0] <= SAME_STEP_S * NS_PER_S
            if is_near and step[0][1] * note[1] > 0:
                step.append(note)
                break
        else:
            steps.append([note])
    for step in steps:
        size_s = max((note[1] for note in step), key=abs)
        pids = {note[2] for note in step}
        direction = "forward" if size_s > 0 else "back"
        at = recorded.calendar.at(step[0][0])
        text = f"The clock was set {direction} by {wording.duration(abs(size_s))} at {at}."
        if size_s > 0:
            text = text.removesuffix(".") + ", or the machine was suspended."
        yield Finding(
            CLOCK,
            text,
            Severity.NOTICE,
            None,
            pids.pop() if len(pids) == 1 else None,
            step[0][0],
            step[-1][0],
            {"step_s": size_s},
            weight=abs(size_s),
        )


def _find_off(recorded: Recorded) -> Iterator[Finding]:
    """Look for times in which recordings were switched off, by `aqltelemetry off` and `on`."""
    gaps = recorded.switched_off
    while gaps:
        first = gaps[0]
        same = [
            gap
            for gap in gaps
            if abs(gap.begin_ns - first.begin_ns) < SAME_SWITCH_S * NS_PER_S
            and abs(gap.end_ns - first.end_ns) < SAME_SWITCH_S * NS_PER_S
        ]
        gaps = [gap for gap in gaps if gap not in same]
        begin_ns, end_ns = min(g.begin_ns for g in same), max(g.end_ns for g in same)
        length_s = (end_ns - begin_ns) / NS_PER_S
        at = recorded.calendar.at
        where = f"worker {first.worker.pid}" if len(same) == 1 else f"{len(same)} workers"
        until = f"to {at(end_ns)}" if first.is_over else "on, until its end"
        text = f"Recording of {where} was switched off from {at(begin_ns)} {until}"
        text += f" ({wording.span(length_s)})." if first.is_over else "."
        yield Finding(
            OFF,
            text,
            Severity.NOTICE,
            None,
            first.worker.pid if len(same) == 1 else None,
            begin_ns,
            end_ns,
            {"off_s": length_s, "workers": float(len(same))},
            weight=length_s,
        )


def _find_memory_only(recorded: Recorded) -> Iterator[Finding]:
    """Look for recordings whose journal is in memory only (`telemetry crash proof` is 0)."""
    found = [
        (worker, samples)
        for worker, samples in recorded.samples(labels.CRASH_PROOF)
        if np.any(samples.values == 0)
    ]
    if found:
        where = f"worker {found[0][0].pid}" if len(found) == 1 else f"{len(found)} workers"
        text = f"The journal of {where} is in memory only: a kill loses what is not yet published."
        yield Finding(
            MEMORY_ONLY,
            text,
            Severity.NOTICE,
            None,
            found[0][0].pid if len(found) == 1 else None,
            min(int(samples.times_ns[0]) for _, samples in found),
            max(int(samples.times_ns[-1]) for _, samples in found),
            {"workers": float(len(found))},
        )


KILLED_RULE = Rule(KILLED, "A process ended without stopping its recording.", _find_killed)
DROPS_RULE = Rule(DROPS, "Observations were taken and not kept.", _find_drops)
CLOCK_RULE = Rule(CLOCK, "The wall clock was set, or the machine was suspended.", _find_steps)
OFF_RULE = Rule(OFF, "Recording was switched off for a time.", _find_off)
MEMORY_ONLY_RULE = Rule(
    MEMORY_ONLY, "A recording has its journal in memory only.", _find_memory_only
)
