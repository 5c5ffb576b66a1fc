"""The rule `slow block`: the slowest requests spend their time in one block inside of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Durations, Integers, Recorded
from aqltelemetry.views.findings.rule import Rule
from aqltelemetry.views.findings.slowest import matches

NAME = "slow block"
MIN_COUNT = 400
"""The least number of requests: of fewer, 20 are not the slowest."""
SHARE = 0.01
"""The part of a route's requests that is looked at: the slowest of them."""
MIN_SLOW = 20
"""How many of the slowest are looked at, at least."""
MAX_SLOW = 200
"""How many of the slowest are looked at, at most, at equal distances."""
MIN_FACTOR = 20.0
"""How many times the median the slowest must be, in the median; and the block, its own median: as
for a long tail. The slowest 1 % of a healthy route last 3 to 15 medians, in whatever they do."""
MIN_EXCESS_S = 0.01
"""How much longer than the median the slowest must be, in the median."""
MIN_EXPLAINED = 0.7
"""Which part of the time by which a request exceeds the median the block must take."""
MIN_SLOW_SHARE = 0.8
"""The least share of the slowest that a block explains."""
MIN_RUNS = 0.9
"""How often the block must run, for each request of the route: it is a part of them."""


class _Slow(NamedTuple):
    route: Durations
    begins_ns: Integers
    ends_ns: Integers
    workers: Integers
    excess_ns: Integers


def _find(recorded: Recorded) -> Iterator[Finding]:
    """Look for a block that takes the time of the slowest requests of a route.

    The slowest are 1 % of the requests, 20 at least; in the median they last 20 times the median
    of all, and 10 ms longer. A block explains a request if a single run of it, in the same
    process and within the time of the request, takes 70 % of the time by which the request
    exceeds the median. It must explain 80 % of the slowest, run 0.9 times for each request in
    the processes of the route, and have lasted 20 times its own median in them. At most 200 of the
    slowest are looked at, and none of a worker for which `slowest requests` knows a cause.
    """
    known = {(each.slow.route.label, each.slow.worker.number) for each in recorded.once(matches)}
    blocks = [route for route in recorded.routes if not route.is_request]
    for route in recorded.routes if blocks else ():
        is_usable = route.is_request and not route.is_connection
        slow = _slowest(route, known) if is_usable else None
        if slow is not None:
            found = [each for block in blocks if (each := _compared(slow, block))]
            yield from sorted(found, key=lambda finding: -finding.figures["share"])[:1]


def _slowest(route: Durations, known: Collection[tuple[str, int]]) -> _Slow | None:
    if len(route) < MIN_COUNT:
        return None
    count = max(int(len(route) * SHARE), MIN_SLOW)
    step = max(count // MAX_SLOW, 1)
    least_s = max(MIN_FACTOR * route.median_s, route.median_s + MIN_EXCESS_S)
    # At least half of those that are looked at must be so long.
    if np.count_nonzero(route.seconds >= least_s) < count // step // 2:
        return None
    slow = np.argpartition(route.seconds, len(route) - count)[-count:]
    slow = np.sort(slow)[::step]
    typical_s = float(np.median(route.seconds[slow]))
    if typical_s < least_s:
        return None
    numbers = np.zeros(len(slow), np.int64)
    for number, part in route.parts.items():
        numbers[(slow >= part.start) & (slow < part.stop)] = number
    rest = [(route.label, number) not in known for number in numbers.tolist()]
    slow, numbers = slow[rest], numbers[rest]
    if len(slow) < MIN_SLOW / 2:
        return None
    lengths_ns = (route.seconds[slow] * NS_PER_S).astype(np.int64)
    excess_ns = lengths_ns - round(route.median_s * NS_PER_S)
    return _Slow(route, route.ends_ns[slow] - lengths_ns, route.ends_ns[slow], numbers, excess_ns)


def _compared(slow: _Slow, block: Durations) -> Finding | None:
    runs = sum(len(block.of(number)) for number in slow.route.parts)
    if runs < MIN_RUNS * len(slow.route):
        return None
    longest_ns = np.zeros(len(slow.ends_ns), np.int64)
    for number in np.unique(slow.workers):
        own = slow.workers == number
        longest_ns[own] = _longest_inside(
            block.of(int(number)), slow.begins_ns[own], slow.ends_ns[own], slow.excess_ns[own].min()
        )
    explained = longest_ns >= MIN_EXPLAINED * slow.excess_ns
    share = float(explained.mean())
    typical_s = float(np.median(longest_ns)) / NS_PER_S
    if share < MIN_SLOW_SHARE or typical_s < MIN_FACTOR * block.median_s:
        return None
    return _finding(slow, block, share, typical_s)


def _longest_inside(
    block: Durations, begins_ns: Integers, ends_ns: Integers, least_ns: int
) -> Integers:
    """Return the longest run within each span of time, of runs that can explain one; else 0."""
    long = block.seconds * NS_PER_S >= MIN_EXPLAINED * least_ns
    run_begins, run_ends = block.begins_ns[long], block.ends_ns[long]
    order = np.argsort(run_begins, kind="stable")
    run_begins, run_ends = run_begins[order], run_ends[order]
    longest = np.zeros(len(begins_ns), np.int64)
    firsts, lasts = np.searchsorted(run_begins, begins_ns), np.searchsorted(run_begins, ends_ns)
    for at, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        within = run_ends[first:last] <= ends_ns[at]
        lengths = (run_ends[first:last] - run_begins[first:last])[within]
        longest[at] = lengths.max(initial=0)
    return longest


def _finding(slow: _Slow, block: Durations, share: float, typical_s: float) -> Finding:
    route = slow.route
    text = (
        f"{wording.share(share)} of the slowest 1 % of {route.label} spend their time in "
        f"`{block.label}`: it takes {wording.duration(typical_s)} there, and "
        f"{wording.duration(block.median_s)} usually."
    )
    return Finding(
        NAME,
        text,
        Severity.WARNING,
        route.label,
        None,
        int(slow.begins_ns.min()),
        int(slow.ends_ns.max()),
        {
            "share": share,
            "block_p50_s": typical_s,
            "block_usual_p50_s": block.median_s,
            "slowest_p50_s": float(np.median(slow.ends_ns - slow.begins_ns)) / NS_PER_S,
            "p50_s": route.median_s,
        },
        weight=float(slow.excess_ns.sum()) / NS_PER_S,
    )


RULE = Rule(NAME, "The slowest requests of a route spend their time in one block.", _find)
