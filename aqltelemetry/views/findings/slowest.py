"""The rule `slowest requests`: what the process did while its slowest requests waited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.event_loop.causes import Cause, causes
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Durations, Integers, Recorded, Worker
from aqltelemetry.views.findings.rule import Rule

NAME = "slowest requests"
SHARE = 0.01
"""The part of a route's requests in a worker that is looked at: the slowest of them."""
MIN_SLOW = 20
"""How many of the slowest are looked at, at least."""
MIN_COUNT = 400
"""The least number of requests: of fewer, 20 are not the slowest."""
MAX_OTHERS = 2_000
"""How many of the other requests are looked at, at equal distances: to compare with."""
MIN_EXCESS_S = 0.01
"""How much longer than the median the slowest must be, in the median: less is noise."""
MIN_EXCESS = 1.0
"""How much longer, as a multiple of the median."""
MIN_EXPLAINED = 0.5
"""Which part of the time by which a request exceeds the median a cause must overlap."""
MIN_SLOW_SHARE = 0.5
"""The least share of the slowest that is explained."""
MAX_OTHER_SHARE = 1 / 3
"""The largest ratio of the share of the others that meet the cause, to that of the slowest."""
MIN_EVENTS = 3
"""The least number of separate events: one pause is not yet a cause of slowness."""


@dataclass(frozen=True, slots=True)
class _Slow:
    """The slowest requests of a route in a worker, and others to compare with, in ns."""

    route: Durations
    worker: Worker
    median_s: float
    count: int
    begins_ns: Integers
    ends_ns: Integers
    other_begins_ns: Integers
    other_ends_ns: Integers

    @property
    def excess_ns(self) -> Integers:
        """By how much each exceeds the median."""
        excess: Integers = self.ends_ns - self.begins_ns - round(self.median_s * NS_PER_S)
        return excess


class Match(NamedTuple):
    """A cause of the slowest requests of a route in a worker."""

    slow: _Slow
    cause: Cause
    share: float
    other_share: float
    events: int


def _find(recorded: Recorded) -> Iterator[Finding]:
    """Look for what overlaps most of the slowest requests of a route in a worker.

    The slowest are 1 % of the route's requests in that worker, 20 at least; they must exceed
    the median by 10 ms and by the median itself, in the median. A cause explains a request if it
    overlaps at least half of the time by which the request exceeds the median. Causes are, in this
    order, pauses of the collector of 1 ms or more; stalls of the event loop, if they were
    recorded, at each line and then all; runs of the block or request that holds the event loop, if
    there is one (see `holders`); lags of the event loop of 10 ms or more; and times between samples
    of which the processor time was 95 % of one processor or more.

    A cause that explains half of the slowest, by three events or more, is a finding if the share
    of the other requests that it meets is at most a third of that. The first cause in this order
    that explains as much as any other, within 10 %, is named. If routes have the same cause,
    one finding names the route with the most requests.
    """
    by_cause: dict[tuple[int, str], list[Match]] = {}
    for match in recorded.once(matches):
        by_cause.setdefault((match.slow.worker.number, match.cause.name), []).append(match)
    for same in by_cause.values():
        same.sort(key=lambda match: (not match.slow.route.is_request, -match.slow.count))
        yield _finding(same)


def matches(recorded: Recorded) -> list[Match]:
    """Return the causes of the slowest requests, at most one for each route and worker."""
    found = []
    for worker in recorded.workers:
        found_causes = [*causes(recorded, worker)]
        for route in recorded.routes if found_causes else ():
            slow = _slowest(route, worker)
            match = _best(slow, found_causes) if slow is not None else None
            if match is not None:
                found.append(match)
    return found


def _slowest(route: Durations, worker: Worker) -> _Slow | None:
    own = route.of(worker.number)
    if len(own) < MIN_COUNT or route.is_connection:
        return None
    count = max(int(np.ceil(len(own) * SHARE)), MIN_SLOW)
    median_s = own.median_s
    least_s = max(MIN_EXCESS_S, MIN_EXCESS * median_s)
    # At least half of the slowest must be so long.
    if np.count_nonzero(own.seconds >= median_s + least_s) < count // 2:
        return None
    order = np.argpartition(own.seconds, len(own) - count)
    slow, others = order[-count:], order[:-count]
    others = others[:: max(len(others) // MAX_OTHERS, 1)]
    excess_s = float(np.median(own.seconds[slow])) - median_s
    if excess_s < least_s:
        return None
    ends_ns, other_ends_ns = own.ends_ns[slow], own.ends_ns[others]
    return _Slow(
        route,
        worker,
        median_s,
        count,
        ends_ns - (own.seconds[slow] * NS_PER_S).astype(np.int64),
        ends_ns,
        other_ends_ns - (own.seconds[others] * NS_PER_S).astype(np.int64),
        other_ends_ns,
    )


def _best(slow: _Slow, causes: Sequence[Cause]) -> Match | None:
    others = [cause for cause in causes if cause.block != slow.route.label]
    matches = [match for cause in others if (match := _match(slow, cause)) is not None]
    most = max((match.share for match in matches), default=0.0)
    return next((match for match in matches if match.share >= most - 0.1), None)


def _match(slow: _Slow, cause: Cause) -> Match | None:
    overlap_ns = cause.intervals.overlap_ns(slow.begins_ns, slow.ends_ns)
    explained = overlap_ns >= np.maximum(MIN_EXPLAINED * slow.excess_ns, 1)
    share = float(explained.mean())
    meets = cause.intervals.overlap_ns(slow.other_begins_ns, slow.other_ends_ns) > 0
    other_share = float(meets.mean())
    events = len(np.unique(cause.intervals.number_after(slow.begins_ns[explained])))
    if share < MIN_SLOW_SHARE or events < MIN_EVENTS or other_share > MAX_OTHER_SHARE * share:
        return None
    return Match(slow, cause, share, other_share, events)


def _finding(same: Sequence[Match]) -> Finding:
    match = same[0]
    slow, worker = match.slow, match.slow.worker
    part = "slowest 1 %" if slow.count > MIN_SLOW else f"{MIN_SLOW} slowest"
    text = (
        f"{wording.share(match.share)} of the {part} of {slow.route.label} in worker "
        f"{worker.pid} overlap {match.cause.text}"
    )
    # A block overlaps whatever its request does.
    others = [each.slow.route.label for each in same[1:] if each.slow.route.is_request]
    text += f"; so do those of {wording.listed(others)}." if others else "."
    figures: dict[str, float] = {
        "share": match.share,
        "other_share": match.other_share,
        "events": float(match.events),
        "slowest": float(slow.count),
        "slowest_p50_s": float(np.median(slow.ends_ns - slow.begins_ns)) / NS_PER_S,
        "p50_s": slow.median_s,
        "longest_s": match.cause.longest_s,
        "routes": float(len(same)),
    }
    return Finding(
        NAME,
        text,
        Severity.WARNING,
        slow.route.label,
        worker.pid,
        int(slow.begins_ns.min()),
        int(slow.ends_ns.max()),
        figures,
        weight=float(sum(each.slow.excess_ns.sum() for each in same)) / NS_PER_S,
    )


RULE = Rule(NAME, "Most of the slowest requests of a route have one cause.", _find)
