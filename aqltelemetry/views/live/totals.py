"""The figures of all routes and workers together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aqltelemetry.observation import FIRST_BYTE
from aqltelemetry.reading.writers import KILLED, RUNNING

_REQUEST = re.compile(r".* \[[A-Z]+\]|unmatched")


class Totals(NamedTuple):
    """The figures of all routes and workers together.

    Attributes:
        what: `requests`, or `durations` where there are no requests. Times to the first byte are
            not counted.
        per_s: How many of them ended, per second of recording.
        trend: How many of them ended in each bin of the window.
        errors_per_s: Responses with a status of 500 to 599, and blocks that raised, per second.
        running: The number of running workers.
        killed: The number of killed workers.
        cpu_percent: The sum over the running workers, in percent of one processor; None if
            nothing was sampled.
        rss_bytes: The sum of their resident memory; None if nothing was sampled.
    """

    what: str
    per_s: float
    trend: list[float]
    errors_per_s: float
    running: int
    killed: int
    cpu_percent: float | None
    rss_bytes: float | None


def totals(
    routes: Sequence[Mapping[str, Any]],
    workers: Sequence[Mapping[str, Any]],
    recorded_s: float,
) -> Totals:
    """Return the figures of all rows together; `recorded_s` is that of the window."""
    requests = [row for row in routes if _REQUEST.fullmatch(row["label"])]
    counted = requests or [row for row in routes if not row["label"].endswith(f" {FIRST_BYTE}")]
    running = [row for row in workers if row["state"] == RUNNING]
    columns = zip(*(row["trend"] for row in counted), strict=True)
    return Totals(
        what="requests" if requests else "durations",
        per_s=sum(row["count"] for row in counted) / recorded_s,
        trend=[sum(column) for column in columns],
        errors_per_s=sum(row["errors_5xx"] + row["failures"] for row in routes) / recorded_s,
        running=len(running),
        killed=sum(row["state"] == KILLED for row in workers),
        cpu_percent=_sum(row["cpu_percent"] for row in running),
        rss_bytes=_sum(row["rss_bytes"] for row in running),
    )


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
