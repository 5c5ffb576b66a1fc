"""The rules about the recording and its processes: kills, drops, steps of the clock, gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from aqltelemetry.quantities import counted
from aqltelemetry.sinks.account import DROPPED
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import labels, wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Recorded
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
    """Add up the observations that were dropped, by reason, as `TelemetryDB.dropped` counts them.

    For each process and reason this is the larger one of the accounts' number and of the last
    sample of `telemetry dropped <reason>`.
    """
    by_reason: dict[str, dict[int, int]] = {}
    for (process, reason), count in recorded.drops.items():
        by_reason.setdefault(reason, {})[process.pid] = count
    for reason, counts in by_reason.items():
        yield _drops(recorded, reason, counts)


def _drops(recorded: Recorded, reason: str, counts: Mapping[int, int]) -> Finding:
    count = sum(counts.values())
    samples = [*recorded.samples(labels.DROPPED + reason)]
    times_ns = [at_ns for _, (at, _) in samples for at_ns in (int(at[0]), int(at[-1]))]
    times_ns += recorded.accounts.of_label(DROPPED + reason).timepoints_ns.tolist()
    total = sum(len(route) for route in recorded.routes) + count
    where = f"worker {next(iter(counts))}" if len(counts) == 1 else f"{len(counts)} workers"
    verb = "was" if count == 1 else "were"
    return Finding(
        DROPS,
        f"{counted(count, 'observation')} of {where} {verb} dropped: {reason}.",
        Severity.ERROR,
        None,
        next(iter(counts)) if len(counts) == 1 else None,
        min(times_ns, default=recorded.begin_ns),
        max(times_ns, default=recorded.end_ns),
        {"count": float(count), "workers": float(len(counts)), "share": count / total},
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
