"""The rules `became slower` and `rate drop`: what changed at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aqltelemetry.reading.summaries.groups import Groups
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Durations, Floats, Recorded, Samples
from aqltelemetry.views.findings.rule import Rule
from aqltelemetry.views.findings.statistics import Segment, raised_segment

SLOWER = "became slower"
DROP = "rate drop"
MAX_BINS = 60
"""Into how many bins of time a recording is divided at most; so a change of 5 % of it is found."""
MIN_BINS = 12
"""Fewer bins have no level to compare with."""
MIN_CHANGED_BINS = 3
"""Of how many bins a change consists at least; fewer are bursts."""
MIN_PER_BIN = 20
"""The least number of requests of a bin on average, so that its median means something."""
MIN_SCORE = 6.0
"""Standard errors: of some 1,800 segments of noise, the highest reaches about 4."""
MIN_SLOWER = 1.3
"""The least factor between medians: daily trends and warm caches change less within a recording."""
MIN_SLOW_FOR_A_TIME = 1.5
"""The least factor where the median falls again: other services are often slow for seconds."""
MIN_SLOWER_S = 0.001
"""The least difference of medians in seconds."""
MAX_SAMPLE = 30_000
"""At most so many requests of a route are looked at, at equal distances."""
MIN_DROP = 0.5
"""The rate must drop to this share of the rate before, and of the rate after."""
MIN_REQUESTS = 200
"""The least number of requests for a rate that can drop."""


class _Change(NamedTuple):
    begin_ns: int
    end_ns: int
    lasts: bool
    before: float
    within: float


def _find_slower(recorded: Recorded) -> Iterator[Finding]:
    """Look for a time from which on, or during which, the median of a route is higher.

    Requests count when they begin. The time of the route is divided into 12 to 60 bins of at least
    20 requests on average. Of the logarithms of their medians, the segment that is higher than the
    others (`statistics.raised_segment`) must be so by 6 standard errors, a factor of 1.3 (1.5 if it
    falls again) and 1 ms, and must not begin with the recording. At most 30,000 requests of a
    route are looked at, at equal distances; the printed medians are those of all. Routes that
    became slower at the same time are one finding, of the route that lost most time, requests
    before blocks.
    """
    found = [(route, change) for route in recorded.routes if (change := _slower(route))]
    # A block takes a part of its request's time: the request comes first.
    found.sort(key=lambda each: (-each[0].is_request, -_lost_s(*each)))
    while found:
        route, change = found.pop(0)
        width_ns = (recorded.end_ns - recorded.begin_ns) / MAX_BINS
        same = [each for each in found if abs(each[1].begin_ns - change.begin_ns) < 2 * width_ns]
        found = [each for each in found if each not in same]
        yield _slower_finding(recorded, route, change, [each[0].label for each in same])


def _slower(route: Durations) -> _Change | None:
    step = max(len(route) // MAX_SAMPLE, 1)
    ends_ns, seconds = route.chosen(slice(None, None, step))
    # By their begin: what ends last, after the last client has gone, are the longest requests.
    begins_ns = ends_ns - (seconds * NS_PER_S).astype(np.int64)
    bins = min(len(seconds) // MIN_PER_BIN, MAX_BINS)
    if bins < MIN_BINS or route.is_connection:
        return None
    first, last = int(begins_ns.min()), int(begins_ns.max()) + 1
    at = ((begins_ns - first) * (bins / (last - first))).astype(np.int64)
    groups = Groups(np.minimum(at, bins - 1), seconds)
    is_filled = groups.counts >= MIN_PER_BIN // 4
    filled, medians = groups.keys[is_filled], groups.quantiles([0.5])[is_filled, 0]
    if len(filled) < MIN_BINS or medians.min() <= 0:
        return None
    found = raised_segment(np.log(medians), MIN_CHANGED_BINS, least_noise=0.02)
    if found is None or found.begin == 0 or found.score < MIN_SCORE:
        return None
    order = np.argsort(begins_ns, kind="stable")
    edges = np.linspace(first, last, bins + 1).astype(np.int64)
    return _exact(route, Samples(begins_ns[order], seconds[order]), edges, filled, found)


def _exact(
    route: Durations, sample: Samples, edges: np.ndarray, filled: np.ndarray, found: Segment
) -> _Change | None:
    middle = float(np.exp((found.inside + found.outside) / 2))
    begin_ns = _turn(sample, middle, edges, filled[found.begin], 1)
    lasts = found.end == len(filled)
    end_ns = int(sample.times_ns[-1])
    if not lasts:
        end_ns = _turn(sample, middle, edges, filled[found.end], -1)
    within = (route.begins_ns >= begin_ns) & (route.begins_ns <= end_ns)
    after_s, before_s = np.median(route.seconds[within]), np.median(route.seconds[~within])
    factor = MIN_SLOWER if lasts else MIN_SLOW_FOR_A_TIME
    if after_s < max(factor * before_s, before_s + MIN_SLOWER_S):
        return None
    return _Change(begin_ns, end_ns, lasts, float(before_s), float(after_s))


def _turn(sample: Samples, middle: float, edges: np.ndarray, number: int, sign: int) -> int:
    """Return the time in two bins that separates lower from higher durations best.

    It is where the cumulative sum of signs has its minimum (CUSUM; Page, "Continuous inspection
    schemes", 1954).
    """
    first, last = np.searchsorted(sample.times_ns, edges[[max(number - 1, 0), number + 1]])
    sums = np.cumsum(np.where(sample.values[first:last] > middle, sign, -sign))
    at = first + 1 + int(np.argmin(sums))
    return int(sample.times_ns[min(at, len(sample.times_ns) - 1)])


def _lost_s(route: Durations, change: _Change) -> float:
    within = (route.begins_ns >= change.begin_ns) & (route.begins_ns <= change.end_ns)
    return (change.within - change.before) * float(np.count_nonzero(within))


def _slower_finding(
    recorded: Recorded, route: Durations, change: _Change, also: Sequence[str]
) -> Finding:
    at = recorded.calendar.at
    before, after = wording.duration(change.before), wording.duration(change.within)
    if change.lasts:
        text = f"{route.label} became slower at {at(change.begin_ns)}: median {before} before, "
        text += f"{after} after"
    else:
        text = f"{route.label} was slower from {at(change.begin_ns)} to {at(change.end_ns)}: "
        text += f"median {after}, {before} before and after"
    text += f"; so did {wording.listed(also)}." if also and change.lasts else ""
    text += f"; so was {wording.listed(also)}." if also and not change.lasts else ""
    lost_s = _lost_s(route, change)
    return Finding(
        SLOWER,
        text.removesuffix(".") + ".",
        Severity.WARNING,
        route.label,
        None,
        change.begin_ns,
        change.end_ns,
        {
            "before_p50_s": change.before,
            "after_p50_s": change.within,
            "factor": change.within / change.before,
            "lost_s": lost_s,
        },
        weight=lost_s,
    )


def _find_drop(recorded: Recorded) -> Iterator[Finding]:
    """Look for a time during which far fewer requests ended than in the rest of the time.

    All requests are counted; if there are none, all blocks. The time until the last sample is
    divided into 12 to 60 bins of at least a second. Of 2 * sqrt(count + 3/8), which has a variance
    of 1 for a Poisson process (Anscombe, "The transformation of Poisson, binomial and
    negative-binomial data", 1948), the segment that is lower than the others
    (`statistics.raised_segment`) must be so by 6 standard errors, and its rate at most half of that
    before, and of that after. It must not begin with the recording. Time in which recording was
    switched off, and time without a recording process, does not count.
    """
    routes = [route for route in recorded.routes if route.is_request] or recorded.routes
    begin_ns, end_ns = recorded.begin_ns, recorded.complete_until_ns
    bins = min(int((end_ns - begin_ns) / NS_PER_S), MAX_BINS)
    if bins < MIN_BINS or sum(map(len, routes)) < MIN_REQUESTS:
        return
    width_ns = (end_ns - begin_ns) / bins
    counts = np.zeros(bins)
    for route in routes:
        at = ((route.ends_ns - begin_ns) / width_ns).astype(np.int64)
        counts += np.bincount(at[at < bins], minlength=bins)
    edges = np.linspace(begin_ns, end_ns, bins + 1)
    known = np.flatnonzero(recorded.known_ns(edges) >= 0.99 * width_ns)
    found = _lowest(counts[known])
    if found is not None:
        yield _drop(recorded, edges, known, counts, found)


def _lowest(counts: Floats) -> Segment | None:
    found = raised_segment(-2 * np.sqrt(counts + 3 / 8), MIN_CHANGED_BINS, least_noise=1.0)
    if found is None or found.begin == 0 or found.score < MIN_SCORE:
        return None
    within = counts[found.begin : found.end].mean()
    before, after = counts[: found.begin].mean(), counts[found.end :]
    is_low = within <= MIN_DROP * before and (not len(after) or within <= MIN_DROP * after.mean())
    return found if is_low else None


def _drop(
    recorded: Recorded, edges: Floats, known: np.ndarray, counts: Floats, found: Segment
) -> Finding:
    width_s = float(edges[1] - edges[0]) / NS_PER_S
    within = known[found.begin : found.end]
    before = float(counts[known[: found.begin]].mean()) / width_s
    low = float(counts[within].mean()) / width_s
    begin_ns, end_ns = int(edges[within[0]]), int(edges[within[-1] + 1])
    at = recorded.calendar.at
    lasts = found.end == len(known)
    when = f"at {at(begin_ns)}" if lasts else f"from {at(begin_ns)} to {at(end_ns)}"
    text = (
        f"The rate of requests dropped {when}: {before:,.1f} a second before, "
        f"{low:,.1f} {'after' if lasts else 'then'}."
    )
    return Finding(
        DROP,
        text,
        Severity.WARNING,
        None,
        None,
        begin_ns,
        end_ns,
        {"before_per_s": before, "after_per_s": low, "share": low / before if before else 0.0},
        weight=before - low,
    )


SLOWER_RULE = Rule(SLOWER, "The median of a route rose at a time, or for a time.", _find_slower)
DROP_RULE = Rule(DROP, "Far fewer requests ended during a part of the time.", _find_drop)
