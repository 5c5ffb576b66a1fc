"""The rule `slow worker`: a worker is slower than its siblings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Durations, Floats, Recorded, Worker
from aqltelemetry.views.findings.rule import Rule
from aqltelemetry.views.findings.statistics import (
    clustered_score,
    difference_score,
    share_by_bins,
)

NAME = "slow worker"
MIN_COUNT = 100
"""The least number of requests of a route in a worker: 1 % of fewer are none."""
MIN_SCORE = 5.0
"""Standard errors, requests being independent. They are not, hence the next two limits."""
MIN_CLUSTERED_SCORE = 2.0
"""Standard errors, parts of time being independent. They are few, so more is seldom reached."""
MIN_PARTS = 4
"""The least number of parts of time with slow requests: what happens once is another finding."""
PARTS = 20
"""Into how many parts the time of a worker is divided."""
MAX_SAMPLE = 10_000
"""At most so many requests of a worker are compared, at equal distances: more add no certainty."""


class _Level(NamedTuple):
    """A quantile to compare, by what factor and by how many seconds it must be larger."""

    quantile: float
    name: str
    factor: float
    least_s: float


# A median is more stable than a 99th percentile, so a smaller difference means something.
LEVELS = (_Level(0.99, "p99", 1.5, 0.005), _Level(0.5, "median", 1.3, 0.001))


class _Sample(NamedTuple):
    worker: Worker
    seconds: Floats
    parts: Any


def _find(recorded: Recorded) -> Iterator[Finding]:
    """Compare each worker with all others of the same route.

    For the 99th percentile, and for the median: let u be that quantile of the others' requests. The
    worker is slower if the share of its own requests above u is larger than theirs by 5 standard
    errors of two proportions, and by 2 standard errors by parts of time (see `statistics`), if its
    slow requests are in at least 4 of 20 parts of its time, and if its own quantile is 1.5 times
    (1.3 times for the median) as large and 5 ms (1 ms) larger. The first fifth of each worker's
    time, at most 10 s, does not count.

    The comparison with a quantile of a control sample is that of Mathisen, "A method of testing the
    hypothesis that two samples are from the same population", 1943.
    """
    slow: dict[int, list[Finding]] = {}
    for route in recorded.routes:
        if not route.is_connection and len(route.parts) > 1:
            samples = [*_samples(recorded, route)]
            for sample in samples if len(samples) > 1 else ():
                finding = _compared(route, sample, [each for each in samples if each is not sample])
                if finding is not None:
                    slow.setdefault(sample.worker.number, []).append(finding)
    for findings in slow.values():
        yield max(findings, key=lambda finding: finding.weight)


def _samples(recorded: Recorded, route: Durations) -> Iterator[_Sample]:
    for worker in recorded.workers:
        own = route.of(worker.number)
        step = slice(None, None, max(len(own) // MAX_SAMPLE, 1))
        ends_ns, seconds = own.chosen(step)
        settled_ns = ends_ns - worker.settled_ns
        is_settled = settled_ns > seconds * NS_PER_S
        if np.count_nonzero(is_settled) >= MIN_COUNT:
            width_ns = (worker.end_ns - worker.settled_ns) // PARTS + 1
            yield _Sample(worker, seconds[is_settled], settled_ns[is_settled] // width_ns)


def _compared(route: Durations, one: _Sample, others: Sequence[_Sample]) -> Finding | None:
    theirs = np.concatenate([other.seconds for other in others])
    parts = np.concatenate([other.parts + PARTS * at for at, other in enumerate(others)])
    for level in LEVELS:
        limit = float(np.quantile(theirs, level.quantile))
        own = float(np.quantile(one.seconds, level.quantile))
        if own < max(level.factor * limit, limit + level.least_s):
            continue
        is_above = one.seconds > limit
        above = share_by_bins(is_above, one.parts, PARTS)
        others_above = share_by_bins(theirs > limit, parts, PARTS * len(others))
        repeated = np.count_nonzero(np.bincount(one.parts[is_above], minlength=PARTS) > 1)
        if (
            repeated >= MIN_PARTS
            and difference_score(above, others_above) >= MIN_SCORE
            and clustered_score(above, others_above) >= MIN_CLUSTERED_SCORE
        ):
            return _finding(route, one.worker, [other.worker for other in others], level)
    return None


def _finding(
    route: Durations, worker: Worker, others: Sequence[Worker], level: _Level
) -> Finding | None:
    """Return the finding with the exact figures of all requests."""
    own = route.of(worker.number).seconds
    theirs = np.concatenate([route.of(other.number).seconds for other in others])
    figures = {"count": float(len(own)), "siblings": float(len(others))}
    for name, quantile in (("p50", 0.5), ("p99", 0.99)):
        figures[f"{name}_s"] = float(np.quantile(own, quantile))
        figures[f"siblings_{name}_s"] = float(np.quantile(theirs, quantile))
    key = "p99" if level.name == "p99" else "p50"
    mine, other = figures[f"{key}_s"], figures[f"siblings_{key}_s"]
    if mine < level.factor * other:  # the difference is in the warm-up of the others
        return None
    text = (
        f"Worker {worker.pid} is slower than {wording.siblings(len(others))}: {level.name} of "
        f"{route.label} {wording.duration(mine)}, theirs {wording.duration(other)}."
    )
    return Finding(
        NAME,
        text,
        Severity.WARNING,
        route.label,
        worker.pid,
        worker.begin_ns,
        worker.end_ns,
        figures,
        weight=(float(own.mean()) - float(theirs.mean())) * len(own),
    )


RULE = Rule(NAME, "A worker is slower than the other workers at the same route.", _find)
