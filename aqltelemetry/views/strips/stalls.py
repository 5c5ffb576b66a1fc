"""Computes the strip of stalls: what blocked event loops over time, and the longest ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.stalls.overlaps import lines_of
from aqltelemetry.views.stalls.bins import blocked_s
from aqltelemetry.views.strips.cells import Floats, Grid, Span

MAX_LISTED = 200
"""How many stalls are listed at most: the longest ones."""
_TEXTS = (
    *("cause", "writer", "function", "innermost", "waits_for", "waits_on", "thread"),
    *("thread_line", "task", "coroutine", "route"),
)
_NUMBERS = ("length_s", "votes", "cpu_s", "run_delay_s")
_OTHERS = ("pid", "looks", "steps", "is_exact", "request", "in_thread")


class StallStrip(NamedTuple):
    """The stalls in a span of time."""

    blocked_s: Mapping[str, Floats]
    """By cause: the seconds in each bin in which event loops, or requests on threads, were blocked.

    They are added up over all processes. The cause with the most time comes first.
    """
    listed: Sequence[Mapping[str, Any]]
    """The longest ones, by time, with their details; times in nanoseconds since the epoch."""
    left_out: int
    """How many are not listed."""


def stall_strip(db: TelemetryDB, window: Grid, span: Span) -> StallStrip | None:
    """Return the stalls that overlap a span of time; None if none was recorded at any time."""
    stalls = db.stalls()
    if stalls.empty:
        return None
    begins_ns, ends_ns = (
        stalls[name].to_numpy("datetime64[ns]").view(np.int64) for name in ("begin", "end")
    )
    inside = np.flatnonzero((ends_ns > span.begin_ns) & (begins_ns < span.end_ns))
    longest = inside[np.argsort(-(ends_ns - begins_ns)[inside], kind="stable")][:MAX_LISTED]
    found = stalls.iloc[np.sort(longest)]
    listed = []
    for line, row in zip(lines_of(found), found.to_dict("records"), strict=True):
        item: dict[str, Any] = {name: row[name] for name in (*_TEXTS, *_OTHERS)}
        item |= {name: _number(row[name]) for name in _NUMBERS}
        item |= {"line": line, "shares": row["shares"], "callbacks": row["callbacks"]}
        item["blocks"] = [*row["blocks"]]
        listed.append({"begin_ns": row["begin"].value, "end_ns": row["end"].value, **item})
    blocked = blocked_s(stalls.iloc[inside], window.begin_ns, window.width_ns, window.bins)
    return StallStrip(blocked, listed, len(inside) - len(listed))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
