"""The rule `long tail`: the 99th percentile of a route is many times its median."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Durations, Recorded
from aqltelemetry.views.findings.rule import Rule
from aqltelemetry.views.findings.statistics import least_quantile

NAME = "long tail"
MIN_COUNT = 300
"""The least number of requests: fewer give no lower limit of a 99th percentile."""
MIN_FACTOR = 20.0
"""A log-normal distribution, usual for requests, reaches it with a standard deviation of 1.3 of
the logarithm; healthy routes have 0.2 to 0.8."""
MIN_P99_S = 0.05
"""Shorter durations are noise of the scheduler, and nobody waits for them."""
ERRORS = 3.1
"""Standard errors of the binomial distribution: the limit holds in 999 of 1,000 cases."""


def _find(recorded: Recorded) -> Iterator[Finding]:
    """Compare the 99th percentile of each route with its median.

    p99 / p50 is at least 20, with p99 at its lower limit for any distribution, 3.1 standard
    errors of the binomial distribution below (see `statistics.least_quantile`), and p99 is at
    least 50 ms. The first fifth of each worker's time, at most 10 s, does not count for that.
    If a route has a long tail, blocks are not named: their tails are those of requests.
    """
    found = []
    for route in recorded.routes:
        if len(route) >= MIN_COUNT and not route.is_connection:
            least_s = max(MIN_FACTOR * route.median_s, MIN_P99_S)
            if route.p99_s >= least_s and _is_sure(recorded, route):
                found.append(route)
    has_requests = any(route.is_request for route in found)
    for route in found:
        if route.is_request or not has_requests:
            yield _finding(route, route.p99_s)


def _is_sure(recorded: Recorded, route: Durations) -> bool:
    settled = [
        own.seconds[own.begins_ns >= worker.settled_ns]
        for worker in recorded.workers
        if len(own := route.of(worker.number))
    ]
    in_order = np.sort(np.concatenate(settled))
    if len(in_order) < MIN_COUNT:
        return False
    return least_quantile(in_order, 0.99, ERRORS) >= MIN_FACTOR * float(np.median(in_order))


def _finding(route: Durations, p99_s: float) -> Finding:
    factor = p99_s / max(route.median_s, 1 / NS_PER_S)
    text = (
        f"{route.label} has a long tail: p99 {wording.duration(p99_s)} is {factor:,.0f} times "
        f"its median of {wording.duration(route.median_s)}."
    )
    return Finding(
        NAME,
        text,
        Severity.WARNING,
        route.label,
        None,
        int(route.begins_ns.min()),
        int(route.ends_ns.max()),
        {
            "count": float(len(route)),
            "p50_s": route.median_s,
            "p99_s": p99_s,
            "max_s": float(route.seconds.max()),
            "factor": factor,
        },
        weight=p99_s * len(route),
    )


RULE = Rule(NAME, "The 99th percentile of a route is many times its median.", _find)
