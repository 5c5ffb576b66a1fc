"""Files as a busy service publishes them: of random requests, a minute of a worker each.

Requests arrive as a Poisson process. The routes are used by Zipf's law, durations are log-normal
with a median for each route, one request in a hundred fails. A request has a row for its duration
and one for its first byte; a failure has one more. As in a recording, the rows of each segment of
32,597 are grouped by label, and a file has the segments of a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import CSV_HEADER, Batch, Column, Kind, SegmentId, Series
from aqltelemetry.sinks.csv_rows import format_batch
from aqltelemetry.sinks.file_names import FileName, enclosing

MINUTE_NS = 60 * 10**9
START_NS = 1_795_489_012_671_577_403 // MINUTE_NS * MINUTE_NS
SEGMENT_ROWS = 32_597
ROUTES = 12
FAILED_SHARE = 0.01
SIGMA = 0.8
_Integers = npt.NDArray[np.int64]


class Minute(NamedTuple):
    """The requests of a worker in a minute: where they end, how long they take, and their label."""

    times_ns: _Integers
    durations_ns: _Integers
    labels: _Integers


def labels() -> list[str]:
    """Return the labels: of each route, its requests, their first bytes, and their failures."""
    routes = [f"/api/v1/resource{number}/{{id}} [GET]" for number in range(ROUTES)]
    return [route + suffix for suffix in ("", " ttfb", " 5xx") for route in routes]


def minute(chance: np.random.Generator, start_ns: int, requests_per_s: float) -> Minute:
    """Return the rows of a random minute, in the order of their ends."""
    count = int(chance.poisson(requests_per_s * 60))
    begins = start_ns + np.sort(chance.integers(0, MINUTE_NS - 10**9, count))
    shares = 1 / np.arange(1, ROUTES + 1)
    routes = chance.choice(ROUTES, count, p=shares / shares.sum())
    medians_ns = np.geomspace(300_000, 80_000_000, ROUTES)
    durations = medians_ns[routes] * chance.lognormal(0, SIGMA, count)
    durations = np.minimum(durations, 900_000_000).astype(np.int64)
    firsts = (durations * chance.uniform(0.6, 0.99, count)).astype(np.int64)
    failed = np.flatnonzero(chance.random(count) < FAILED_SHARE)
    ends = begins + durations
    times = np.concatenate([ends, begins + firsts, ends[failed]])
    order = np.argsort(times, kind="stable")
    return Minute(
        times[order],
        np.concatenate([durations, firsts, durations[failed]])[order],
        np.concatenate([routes, routes + ROUTES, routes[failed] + 2 * ROUTES])[order],
    )


def write(
    directory: Path, chance: np.random.Generator, worker: int, number: int, requests_per_s: float
) -> int:
    """Publish the file of a worker's minute; return the number of its rows."""
    found = minute(chance, START_NS + number * MINUTE_NS, requests_per_s)
    rows = len(found.times_ns)
    writer = f"{0xABCDEF0123450000 + worker:016x}"
    parts = list(_segments(found))
    first = number * 1000 + 1
    text = b"".join(
        block.text
        for at, columns in enumerate(parts)
        for block in format_batch(
            Batch(SegmentId(writer, first + at), 4000 + worker, 64 << 20, columns), _go_on
        )["duration"]
    )
    name = FileName(
        "duration",
        *enclosing(int(found.times_ns[0]), int(found.times_ns[-1])),
        4000 + worker,
        writer,
        *(first, first + len(parts) - 1, 0),
    )
    temporary = directory / f"duration.{writer}.{number}.tmp"
    temporary.write_bytes(CSV_HEADER + text)
    temporary.rename(directory / str(name))
    return rows


def _go_on() -> None:
    """Let other threads run, which a benchmark does not have."""


def _segments(found: Minute) -> Iterator[list[Any]]:
    series = [Series("duration", label, Kind.NANOSECONDS) for label in labels()]
    for start in range(0, len(found.times_ns), SEGMENT_ROWS):
        part = slice(start, start + SEGMENT_ROWS)
        codes = found.labels[part]
        order = np.argsort(codes, kind="stable")
        ends = np.searchsorted(codes[order], np.arange(len(series) + 1))
        times, durations = found.times_ns[part][order], found.durations_ns[part][order]
        yield [
            Column(series[code], times[a:b].tolist(), durations[a:b].tolist())
            for code, (a, b) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
            if b > a
        ]
