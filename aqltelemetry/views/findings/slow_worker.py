"""The rule `slow worker`: a worker is slower than its siblings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aqltelemetry.reading.summaries.selection import Runs, quantiles
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Durations, Floats, Integers, Recorded, Worker
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
MIN_LIFE = 0.5
"""What part of the others' median time a worker must have lived, or else `MIN_LIFE_S`: one that was
just started is slow, as all of them were."""
MIN_LIFE_S = 60.0
"""A worker that lived for so many seconds is compared in any case."""
PARTS = 20
"""Into how many parts the time of a worker is divided."""
MAX_SAMPLE = 10_000
"""At most so many requests of a worker are compared, at equal distances: more add no certainty."""
_ROUNDING = 1e-9


class _Level(NamedTuple):
    """A quantile to compare, by what factor and by how many seconds it must be larger."""

    quantile: float
    name: str
    factor: float
    least_s: float


# A median is more stable than a 99th percentile, so a smaller difference means something.
LEVELS = (_Level(0.99, "p99", 1.5, 0.005), _Level(0.5, "median", 1.3, 0.001))


class _Sample(NamedTuple):
    """Requests of a worker after its warm-up, in the order of their ends, and how long each took.

    `quantiles` are those of `LEVELS`.
    """

    worker: Worker
    ends_ns: Integers
    seconds: Floats
    quantiles: Sequence[float]

    def during(self, worker: Worker) -> _Sample:
        """Return those in the time of a worker after its warm-up; `quantiles` stay."""
        begin = int(np.searchsorted(self.ends_ns, worker.settled_ns))
        end = int(np.searchsorted(self.ends_ns, worker.end_ns, "right"))
        within = slice(begin, max(end, begin))
        return self._replace(ends_ns=self.ends_ns[within], seconds=self.seconds[within])

    def parts(self, worker: Worker) -> Integers:
        """Return for each the part of the time of a worker."""
        width_ns = (worker.end_ns - worker.settled_ns) // PARTS + 1
        return (self.ends_ns - worker.settled_ns) // width_ns


def _find(recorded: Recorded) -> Iterator[Finding]:
    """Compare each worker with all others of the same route.

    For the 99th percentile, and for the median: let u be that quantile of the others' requests
    during the worker's time. The worker is slower if the share of its own requests above u is
    larger than theirs by 5 standard errors of two proportions, and by 2 standard errors by parts of
    time (see `statistics`), if its slow requests are in at least 4 of 20 parts of its time, and if
    its own quantile is 1.5 times (1.3 times for the median) as large and 5 ms (1 ms) larger, over
    all of its time and over the second half. The first fifth of each worker's time, at most 10 s,
    does not count, and neither does a worker that lived for less than a minute and less than half
    as long as the others.

    The comparison with a quantile of a control sample is that of Mathisen, "A method of testing the
    hypothesis that two samples are from the same population", 1943.
    """
    slow: dict[int, list[Finding]] = {}
    for route in recorded.routes:
        if not route.is_connection and len(route.parts) > 1:
            samples = _samples(recorded, route)
            for sample in samples:
                others = [each.during(sample.worker) for each in samples if each is not sample]
                others = [each for each in others if len(each.seconds) >= MIN_COUNT]
                finding = _compared(route, sample, others) if others else None
                if finding is not None:
                    slow.setdefault(sample.worker.number, []).append(finding)
    for findings in slow.values():
        yield max(findings, key=lambda finding: finding.weight)


def _samples(recorded: Recorded, route: Durations) -> list[_Sample]:
    usual_s = float(np.median([worker.seconds for worker in recorded.workers]))
    chosen = []
    for worker in recorded.workers:
        if worker.seconds >= min(MIN_LIFE * usual_s, MIN_LIFE_S):
            ends_ns, seconds = _settled(route.of(worker.number), worker)
            if len(seconds) >= MIN_COUNT:
                chosen.append((worker, ends_ns, seconds))
    if not chosen:
        return []
    # All at once: most of the time of a few quantiles is that of the call.
    counts = np.array([len(seconds) for *_, seconds in chosen])
    values = np.concatenate([seconds for *_, seconds in chosen])
    own = quantiles(values, Runs.of_counts(counts), counts, [each.quantile for each in LEVELS])
    return [_Sample(*each, row) for each, row in zip(chosen, own.tolist(), strict=True)]


def _settled(own: Durations, worker: Worker) -> tuple[Integers, Floats]:
    """Return requests of a worker after its warm-up, by their ends: the ends, and the seconds."""
    ends_ns, seconds = own.chosen(slice(None, None, max(len(own) // MAX_SAMPLE, 1)))
    is_settled = ends_ns - worker.settled_ns > seconds * NS_PER_S
    ends_ns, seconds = ends_ns[is_settled], seconds[is_settled]
    if not np.all(ends_ns[1:] >= ends_ns[:-1]):
        order = np.argsort(ends_ns, kind="stable")
        ends_ns, seconds = ends_ns[order], seconds[order]
    return ends_ns, seconds


def _compared(route: Durations, one: _Sample, others: Sequence[_Sample]) -> Finding | None:
    levels = [
        level
        for level, own in zip(LEVELS, one.quantiles, strict=True)
        if _may_be_slower(level, own, others)
    ]
    if not levels:
        return None
    theirs = np.concatenate([other.seconds for other in others])
    parts = one.parts(one.worker)
    their_parts = np.concatenate(
        [other.parts(one.worker) + PARTS * at for at, other in enumerate(others)]
    )
    for level in levels:
        q = level.quantile
        limit = float(np.quantile(theirs, q))
        least = max(level.factor * limit, limit + level.least_s)
        late = one.seconds[parts >= PARTS // 2]
        if not len(late) or min(np.quantile(one.seconds, q), np.quantile(late, q)) < least:
            continue
        is_above = one.seconds > limit
        above = share_by_bins(is_above, parts, PARTS)
        others_above = share_by_bins(theirs > limit, their_parts, PARTS * len(others))
        repeated = np.count_nonzero(np.bincount(parts[is_above], minlength=PARTS) > 1)
        if (
            repeated >= MIN_PARTS
            and difference_score(above, others_above) >= MIN_SCORE
            and clustered_score(above, others_above) >= MIN_CLUSTERED_SCORE
        ):
            return _finding(route, one.worker, [other.worker for other in others], level)
    return None


def _may_be_slower(level: _Level, own: float, others: Sequence[_Sample]) -> bool:
    """Return whether a worker's quantile may exceed that of the others as much as is needed.

    It does not if too few of theirs are as small as it takes. To count them takes a small part
    of the time of a quantile.
    """
    most = min(own / level.factor, own - level.least_s) * (1 + _ROUNDING)
    small = sum(int(np.count_nonzero(other.seconds <= most)) for other in others)
    count = sum(len(other.seconds) for other in others)
    return small > int(level.quantile * (count - 1))


def _during(route: Durations, worker: Worker) -> Floats:
    within = (route.ends_ns >= worker.begin_ns) & (route.ends_ns <= worker.end_ns)
    return route.seconds[within]


def _finding(
    route: Durations, worker: Worker, others: Sequence[Worker], level: _Level
) -> Finding | None:
    """Return the finding with the exact figures of all requests."""
    own = route.of(worker.number).seconds
    theirs = np.concatenate([_during(route.of(other.number), worker) for other in others])
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
