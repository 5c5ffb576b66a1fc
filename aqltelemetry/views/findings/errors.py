"""The rules `errors` and `error burst`: requests and blocks that failed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aqltelemetry.observation import REQUEST_OUTCOMES
from aqltelemetry.quantities import counted
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Durations, Floats, Recorded
from aqltelemetry.views.findings.rule import Rule

ERRORS = "errors"
BURST = "error burst"
_CLIENT_ERROR, _SERVER_ERROR, _DISCONNECT = REQUEST_OUTCOMES
MIN_ERRORS = 20
"""The least number of errors of a route that fails all the time."""
MIN_SHARE = 0.05
"""The least share of errors; services promise less than 1 %."""
PARTS = 20
"""Into how many parts the time is divided, to separate errors from bursts of errors."""
MIN_PARTS = 0.5
"""In which part of the time, at least, a route must fail, so that it fails all the time."""
MAX_BINS = 300
"""Into how many bins of time a recording is divided at most, of a second at least."""
MIN_BURST = 10
"""The least number of errors in a burst."""
MIN_BURST_FACTOR = 5.0
"""How many times the share of errors in the rest of the time the share in a burst is at least."""
MIN_MORE = 0.05
"""How much larger the share of errors in a burst is at least."""
MIN_SCORE = 6.0
"""Standard errors: of some 45,000 segments of noise, the highest reaches about 4.5."""
MAX_BURST = 0.5
"""A burst is at most this part of the time: more is the usual state."""


def _find_bursts(recorded: Recorded) -> Iterator[Finding]:
    """Look for a time in which the share of an outcome of a route is far above the rest.

    The time is divided into at most 300 bins of at least a second. The segment of adjacent
    bins, up to half of the time, is taken for which sqrt(2 log(L / L0)) is the largest. L is the
    likelihood of the errors with one share inside and one outside, L0 that with the same share
    everywhere: the scan statistic of Kulldorff, "A spatial scan statistic", 1997, in one dimension.
    It must be 6, with at least 10 errors inside, and a share 5 times that outside, and 0.05 larger.
    """
    bins = int(min(max((recorded.end_ns - recorded.begin_ns) / NS_PER_S, 1), MAX_BINS))
    edges = np.linspace(recorded.begin_ns, recorded.end_ns + 1, bins + 1)
    for route in recorded.routes:
        for outcome, failed in route.outcomes.items():
            if len(failed) >= MIN_BURST:
                finding = _burst(recorded, route, outcome, failed, edges)
                if finding is not None:
                    yield finding


def _burst(
    recorded: Recorded, route: Durations, outcome: str, failed: Durations, edges: Floats
) -> Finding | None:
    errors = _sums(failed, edges)
    counts = np.maximum(_sums(route, edges), errors)
    bins = len(errors) - 1
    begins, ends = np.triu_indices(bins + 1, 1)
    fits = ends - begins <= max(bins * MAX_BURST, 1)
    begins, ends = begins[fits], ends[fits]
    inside, requests = errors[ends] - errors[begins], counts[ends] - counts[begins]
    outside, rest = errors[-1] - inside, counts[-1] - requests
    share, usual = inside / np.maximum(requests, 1), outside / np.maximum(rest, 1)
    holds = (
        (inside >= MIN_BURST) & (share >= MIN_BURST_FACTOR * usual) & (share >= usual + MIN_MORE)
    )
    gain = _likelihood(inside, requests) + _likelihood(outside, rest)
    gain -= _likelihood(errors[-1:], counts[-1:])
    score = np.where(holds, np.sqrt(2 * np.maximum(gain, 0)), 0)
    best = int(np.argmax(score))
    if score[best] < MIN_SCORE:
        return None
    return _burst_finding(
        recorded, route, outcome, failed, (edges[begins[best]], edges[ends[best]])
    )


def _likelihood(errors: Floats, counts: Floats) -> Floats:
    """Return the logarithm of the largest likelihood of so many errors of so many requests."""
    good, total = counts - errors, np.maximum(counts, 1)
    logs = [part * np.log(np.maximum(part, 1) / total) for part in (errors, good)]
    return np.asarray(logs[0] + logs[1])


def _sums(durations: Durations, edges: Floats) -> Floats:
    """Return how many ended before each edge."""
    width_ns = max(edges[1] - edges[0], 1.0)  # 0 where floats are not exact enough
    at = ((durations.ends_ns - int(edges[0])) / width_ns).astype(np.int64)
    counts = np.bincount(np.clip(at, 0, len(edges) - 2), minlength=len(edges) - 1)
    return np.concatenate([[0.0], np.cumsum(counts)])


def _burst_finding(
    recorded: Recorded,
    route: Durations,
    outcome: str,
    failed: Durations,
    place: tuple[float, float],
) -> Finding:
    at_ns = failed.ends_ns[(failed.ends_ns >= place[0]) & (failed.ends_ns < place[1])]
    begin_ns, end_ns = int(at_ns.min()), int(at_ns.max())
    of = (route.ends_ns >= begin_ns) & (route.ends_ns <= end_ns)
    requests = max(int(np.count_nonzero(of)), len(at_ns))
    others = len(failed) - len(at_ns)
    rest = max(len(route) - requests, others)
    usual = others / rest if rest else 0.0
    share = len(at_ns) / requests
    at = recorded.calendar.at
    what = _what(route, outcome)
    text = (
        f"From {at(begin_ns)} to {at(end_ns)}, {wording.share(share)} of {route.label} {what} "
        f"({len(at_ns):,} of {requests:,}), otherwise {wording.share(usual)}."
    )
    is_client = outcome in (_CLIENT_ERROR, _DISCONNECT)
    return Finding(
        BURST,
        text,
        Severity.WARNING if is_client else Severity.ERROR,
        route.label,
        None,
        begin_ns,
        end_ns,
        {"errors": float(len(at_ns)), "count": float(requests), "share": share, "usual": usual},
        weight=float(len(at_ns)),
    )


def _what(route: Durations, outcome: str) -> str:
    if outcome == _DISCONNECT:
        return "were disconnected"
    if outcome in REQUEST_OUTCOMES:
        return f"ended with {outcome}"
    return "failed" if route.is_request else "raised an exception"


def _find_errors(recorded: Recorded) -> Iterator[Finding]:
    """Look for routes and blocks of which many fail: 20 at least, and 5 % at least.

    A request fails by a status of 5xx, and a block or function by an exception. Client errors and
    disconnects count only as bursts, since clients may make any number of them. Of 20 parts of
    the time, at least half of those with requests must have such errors: the others are bursts.
    """
    edges = np.linspace(recorded.begin_ns, recorded.end_ns + 1, PARTS + 1)
    for route in recorded.routes:
        for outcome, failed in route.outcomes.items():
            # Each failure is of a request, even if the request itself was not loaded.
            count = max(len(route), len(failed))
            share = len(failed) / max(count, 1)
            is_own = outcome not in (_CLIENT_ERROR, _DISCONNECT)
            if is_own and len(failed) >= MIN_ERRORS and share >= MIN_SHARE:
                failures = np.diff(_sums(failed, edges))
                had = (np.diff(_sums(route, edges)) > 0) | (failures > 0)
                if np.mean(failures[had] > 0) < MIN_PARTS:
                    continue
                yield _errors_finding(route, outcome, failed, count)


def _errors_finding(route: Durations, outcome: str, failed: Durations, count: int) -> Finding:
    total = counted(count, "request" if route.is_request else "time", None)
    share = len(failed) / count
    text = (
        f"{wording.share(share)} of {route.label} {_what(route, outcome)}: "
        f"{len(failed):,} of {total}."
    )
    return Finding(
        ERRORS,
        text,
        Severity.ERROR,
        route.label,
        None,
        int(failed.ends_ns.min()),
        int(failed.ends_ns.max()),
        {"errors": float(len(failed)), "count": float(count), "share": share},
        weight=float(len(failed)),
    )


BURST_RULE = Rule(
    BURST, "Errors of a route are far more frequent during a part of the time.", _find_bursts
)
ERRORS_RULE = Rule(
    ERRORS, "Many requests of a route end with 5xx, or many runs of a block fail.", _find_errors
)
