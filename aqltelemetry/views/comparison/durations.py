"""Arranges the durations of a recording by label, for a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from aqltelemetry.observation import DURATION, STALL
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.outcomes import roles
from aqltelemetry.reading.rows import Codes
from aqltelemetry.views.comparison.bootstrap import Floats, Integers


class Series(NamedTuple):
    """The durations of a label."""

    times_ns: Integers
    """When each of n ended, in nanoseconds since the epoch, in ascending order."""
    seconds: Floats
    """n durations."""
    error_times_ns: Integers
    """When each of them ended that had an error, in ascending order."""


class Durations(NamedTuple):
    """The durations of a recording."""

    name: str
    """What was recorded, for people: a directory, and perhaps a time."""
    recorded_s: float
    """For how long at least one process recorded, in seconds; NaN if there is nothing."""
    begin_ns: int
    """When the first one ended, in nanoseconds since the epoch; 0 if there is none."""
    end_ns: int
    """When the last one ended."""
    labels: Mapping[str, Series]
    stalls: Mapping[str, tuple[int, float]] = MappingProxyType({})
    """How many stalls each cause had, and the sum of their lengths in seconds."""

    @property
    def total(self) -> int:
        """How many requests, blocks and functions there are."""
        return sum(len(series.seconds) for series in self.labels.values())


def durations(db: TelemetryDB, name: str, has: Callable[[str], bool] | None = None) -> Durations:
    """Return the durations of a recording.

    Errors are the requests with a status of 400 or more or a disconnected client, and the blocks
    and functions that failed.

    Args:
        db: The recording.
        name: What it is, for people.
        has: Returns whether a label is wanted; None for all.
    """
    rows = db.rows(DURATION)
    is_known = np.isfinite(rows.measurements)
    if not is_known.all():
        rows = rows[is_known]
    times_ns = rows.timepoints_ns
    begin_ns, end_ns = (times_ns.min(), times_ns.max()) if len(rows) else (0, 0)
    found = by_label(times_ns, rows.measurements, rows.label_codes, rows.labels)
    wanted = {label: series for label, series in found.items() if has is None or has(label)}
    recorded_s, stalls = db.recorded_s(), _stalls(db)
    return Durations(name, recorded_s, int(begin_ns), int(end_ns), wanted, stalls)


def _stalls(db: TelemetryDB) -> Mapping[str, tuple[int, float]]:
    rows = db.rows(STALL, missing_ok=True)
    counts = np.bincount(rows.label_codes, minlength=len(rows.labels)).tolist()
    totals_s = np.bincount(rows.label_codes, rows.measurements, len(rows.labels)).tolist()
    found = zip(rows.labels, zip(counts, totals_s, strict=True), strict=True)
    return {cause: stalls for cause, stalls in found if stalls[0]}


def by_label(
    times_ns: Integers, seconds: Floats, codes: Codes, labels: Sequence[str]
) -> Mapping[str, Series]:
    """Return the durations of each label, without outcomes.

    Args:
        times_ns: When each of n durations ended, in nanoseconds since the epoch.
        seconds: n durations.
        codes: n indexes into `labels`.
        labels: All labels.
    """
    if not labels:
        return {}
    order = np.lexsort((times_ns, codes))
    times_ns, seconds = times_ns[order], seconds[order]
    ends = np.cumsum(np.bincount(codes, minlength=len(labels)))
    parts = [slice(begin, end) for begin, end in zip((0, *ends[:-1]), ends, strict=True)]
    known = roles(labels)
    found = {}
    for code, label in enumerate(labels):
        part = parts[code]
        if known.outcomes[code] >= 0 or part.start == part.stop:
            continue
        errors = np.flatnonzero((known.bases == code) & (known.outcomes >= 0))
        error_times = [times_ns[parts[each]] for each in errors]
        found[label] = Series(
            times_ns[part],
            seconds[part],
            np.sort(np.concatenate(error_times)) if error_times else np.empty(0, np.int64),
        )
    return found
