"""The rule `event loop blocked`: which line blocks event loops, by the recorded stalls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aqltelemetry.quantities import counted
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.findings import wording
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Recorded, StallPlace
from aqltelemetry.views.findings.rule import Rule

NAME = "event loop blocked"
MIN_COUNT = 3
"""The least number of stalls: one or two of usual length are no habit."""
MIN_SHARE = 0.001
"""The least part of the recorded time: a request would meet less by a chance of 1 in 1,000."""
MIN_LONGEST_S = 1.0
"""A single stall of this length is found too: clients and health checks give up."""
MAX_LINES = 3
"""How many lines are findings, those with the most time; the table of stalls has all."""


def _find(recorded: Recorded) -> Iterator[Finding]:
    """Look for the causes and lines of the stalls that `with_stalls` recorded.

    A cause at a line is a finding if it blocked event loops three times and for a thousandth of the
    recorded time, or once for a second or more. The three with the most time are found.
    """
    least_s = MIN_SHARE * (recorded.end_ns - recorded.begin_ns) / NS_PER_S
    lines = [
        line
        for line in recorded.stall_lines
        if not line["of_requests"]
        and (
            (line["count"] >= MIN_COUNT and line["total_s"] >= least_s)
            or line["longest_s"] >= MIN_LONGEST_S
        )
    ]
    for line in lines[:MAX_LINES]:
        yield _finding(recorded, line)


def _finding(recorded: Recorded, line: Mapping[str, Any]) -> Finding:
    begin_ns, end_ns = line["first"].value, line["last"].value
    count, workers = line["count"], line["workers"]
    where = StallPlace(line["cause"], line["line"], line["function"])
    pids = recorded.stalled_pids(where)
    of = f"The event loop of worker {pids[0]} was"
    if workers > 1:
        of = f"The event loops of {workers} workers were"
    longest, total = wording.duration(line["longest_s"]), wording.duration(line["total_s"])
    at = recorded.calendar.at
    place = wording.stall(*where)
    if count == 1:
        text = f"{of} blocked for {longest} at {at(begin_ns)}: {place}{_delayed(line)}."
    else:
        text = (
            f"{of} blocked {count:,} times from {at(begin_ns)} to {at(end_ns)}, for up to "
            f"{longest} ({total} in all): {place}{_delayed(line)}."
        )
    figures = {
        "count": float(count),
        "total_s": line["total_s"],
        "longest_s": line["longest_s"],
        "workers": float(workers),
        "delayed": float(line["delayed"]),
        "routes": float(len(line["routes"])),
    }
    return Finding(
        NAME,
        text,
        Severity.WARNING,
        next(iter(line["routes"]), None),
        pids[0] if len(pids) == 1 else None,
        begin_ns,
        end_ns,
        figures,
        weight=line["total_s"],
    )


def _delayed(line: Mapping[str, Any]) -> str:
    """Return how many requests it delayed, as the end of a sentence."""
    routes = [*line["routes"]]
    if not routes:
        return ""
    noun = "request" if routes[0].endswith("]") else "block"
    verb = "was" if line["delayed"] == 1 else "were"
    return f"; {counted(line['delayed'], noun)} of {wording.listed(routes)} {verb} in progress"


RULE = Rule(NAME, "A line of code, or something else, blocks the event loop.", _find)
