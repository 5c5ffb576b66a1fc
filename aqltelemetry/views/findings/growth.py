"""The rules `memory grows`, `requests pile up` and `resources leak`: what only grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.labels import IN_FLIGHT, OPEN_FDS, RSS, TASKS, THREADS
from aqltelemetry.views.findings.recorded import Recorded, Samples, Worker
from aqltelemetry.views.findings.rule import Rule
from aqltelemetry.views.findings.statistics import fitted_line

MEMORY = "memory grows"
PILE = "requests pile up"
LEAK = "resources leak"
MIN_SAMPLES = 18
"""The least number of samples after the warm-up: three for each part."""
PARTS = 6
"""Into how many parts the time is divided: a random order of six rises in 1 of 720 cases."""
MIN_R_SQUARED = 0.8
"""What grows in steps, as caches do that are never emptied, reaches 0.9; a saw-tooth does not."""
MIN_LATE = 0.5
"""How much of the growth of the first half the second half has at least: a cache that fills
grows less and less."""
MIN_MEMORY = 0.1
"""The least growth of memory, as a share of it: allocators and caches account for less."""
MIN_MEMORY_BYTES = 16 << 20
"""The least growth of memory, in bytes."""
MIN_TIMES = 2.0
"""By what factor a count must grow at least."""
MIN_MORE = 10.0
"""By how much a count must grow at least."""


class _Growth(NamedTuple):
    worker: Worker
    begin_ns: int
    end_ns: int
    first: float
    last: float
    slope_per_s: float
    r_squared: float


def _growth(worker: Worker, samples: Samples) -> _Growth | None:
    """Return how a series grows, if it does so steadily.

    The first fifth of the worker's time, at most 10 s, is left out. The rest is divided into six
    parts: the lower quartile of each must be above that of the part before. The line of Theil
    and Sen (`statistics.fitted_line`) must explain 80 % of the variance, and the second half grow
    at least half as much as the first one.
    """
    settled = samples.times_ns >= worker.settled_ns
    times_s = (samples.times_ns[settled] - worker.begin_ns) / NS_PER_S
    values = samples.values[settled]
    if len(values) < MIN_SAMPLES:
        return None
    lows = np.array([np.quantile(part, 0.25) for part in np.array_split(values, PARTS)])
    rises = np.diff(lows)
    middle = PARTS // 2
    early, late = lows[middle - 1] - lows[0], lows[-1] - lows[middle]
    if rises.min() <= 0 or late < MIN_LATE * early:
        return None
    line = fitted_line(times_s, values)
    if line.r_squared < MIN_R_SQUARED or line.slope <= 0:
        return None
    last = line.first + line.slope * float(times_s[-1] - times_s[0])
    begin_ns, end_ns = (int(at_ns) for at_ns in samples.times_ns[settled][[0, -1]])
    first = max(line.first, 0.0)
    return _Growth(worker, begin_ns, end_ns, first, last, line.slope, line.r_squared)


def _find_memory(recorded: Recorded) -> Iterator[Finding]:
    """Look for workers whose resident memory grows steadily, see `_growth`.

    It must grow by 10 % and 16 MiB, by the line. The time to double is the last value divided by
    the slope.
    """
    for worker, samples in recorded.samples(RSS):
        growth = _growth(worker, samples)
        if growth is None:
            continue
        grown = growth.last - growth.first
        if grown < max(MIN_MEMORY * growth.first, MIN_MEMORY_BYTES):
            continue
        double_s = growth.last / growth.slope_per_s
        text = (
            f"Memory of worker {worker.pid} grows steadily: {wording.size(growth.first)} at "
            f"{recorded.calendar.at(growth.begin_ns)}, {wording.size(growth.last)} at "
            f"{recorded.calendar.at(growth.end_ns)}, "
            f"{wording.size(growth.slope_per_s * 60)} a minute (R² {growth.r_squared:.2f}); "
            f"it doubles in {wording.span(double_s)}."
        )
        figures = {
            "first_bytes": growth.first,
            "last_bytes": growth.last,
            "slope_bytes_per_s": growth.slope_per_s,
            "r_squared": growth.r_squared,
            "double_s": double_s,
        }
        yield _finding(MEMORY, text, RSS, growth, figures)


def _find_pile(recorded: Recorded) -> Iterator[Finding]:
    """Look for workers whose requests in progress only grow, see `_growth`: twofold and by 10."""
    for worker, samples in recorded.samples(IN_FLIGHT):
        growth = _count_growth(worker, samples)
        if growth is not None:
            text = f"Requests in progress of worker {worker.pid} only grow: "
            text += f"{_from_to(recorded, growth)}."
            figures = {"last_sample": float(samples.values[-1]), **_count_figures(growth)}
            yield _finding(PILE, text, IN_FLIGHT, growth, figures)


def _find_leak(recorded: Recorded) -> Iterator[Finding]:
    """Look for workers whose open files, threads or tasks only grow, as `requests pile up` does."""
    for label, name in ((OPEN_FDS, "Open files"), (THREADS, "Threads"), (TASKS, "Tasks")):
        for worker, samples in recorded.samples(label):
            growth = _count_growth(worker, samples)
            if growth is not None:
                text = f"{name} of worker {worker.pid} only grow: "
                text += f"{_from_to(recorded, growth)}."
                figures = _count_figures(growth)
                yield _finding(LEAK, text, label, growth, figures)


def _count_growth(worker: Worker, samples: Samples) -> _Growth | None:
    growth = _growth(worker, samples)
    if growth is None:
        return None
    is_large = growth.last >= max(MIN_TIMES * growth.first, growth.first + MIN_MORE)
    return growth if is_large else None


def _from_to(recorded: Recorded, growth: _Growth) -> str:
    at = recorded.calendar.at
    return (
        f"{growth.first:,.0f} at {at(growth.begin_ns)}, "
        f"{growth.last:,.0f} at {at(growth.end_ns)} "
        f"(R² {growth.r_squared:.2f})"
    )


def _count_figures(growth: _Growth) -> dict[str, float]:
    return {
        "first": growth.first,
        "last": growth.last,
        "slope_per_s": growth.slope_per_s,
        "r_squared": growth.r_squared,
    }


def _finding(
    rule: str, text: str, label: str, growth: _Growth, figures: dict[str, float]
) -> Finding:
    return Finding(
        rule,
        text,
        Severity.ERROR if rule == PILE else Severity.WARNING,
        label,
        growth.worker.pid,
        growth.begin_ns,
        growth.end_ns,
        figures,
        weight=growth.last / max(growth.first, 1.0),
    )


MEMORY_RULE = Rule(MEMORY, "The memory of a worker grows steadily.", _find_memory)
PILE_RULE = Rule(PILE, "The number of requests in progress of a worker only grows.", _find_pile)
LEAK_RULE = Rule(LEAK, "The open files, threads or tasks of a worker only grow.", _find_leak)
