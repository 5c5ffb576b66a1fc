"""Counts dropped observations, from the accounts and the samples of each recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.summaries.groups import Groups
from aqltelemetry.sinks.account import CHILD, DROPPED, TORN
from aqltelemetry.system.later import pd

PID_LEVEL, WRITER_LEVEL, REASON_LEVEL = "pid", "writer", "reason"
_SAMPLED_DROPS = "telemetry dropped "
_Counts: TypeAlias = dict[tuple[int, str, str], float]


def dropped(accounts: Rows, runtime: Rows) -> pd.Series[float]:
    """Return the number of dropped observations, by PID, writer and reason.

    It is the larger number of the accounts and of the last sample, which is later while a
    process records. A forked child with several writers appears under one of them.
    """
    counts = _accounted(accounts)
    for key, total in _sampled(runtime, recordings(accounts)).items():
        counts[key] = max(total, counts.get(key, total))
    levels = [PID_LEVEL, WRITER_LEVEL, REASON_LEVEL]
    index = pd.MultiIndex.from_tuples(sorted(counts), names=levels)
    return pd.Series([counts[key] for key in sorted(counts)], index, float, "dropped")


def recordings(accounts: Rows) -> Mapping[str, str]:
    """Map the writers of each forked child to one of them; other writers are left out.

    Each segment of a forked child may have a writer of its own, and the accounts of all of them
    contain the same totals.
    """
    first: dict[float, str] = {}
    children = accounts.of_label(CHILD)
    found = zip(children.process_codes.tolist(), children.measurements.tolist(), strict=True)
    writers = sorted({(accounts.processes[code].writer, child) for code, child in found})
    return {writer: first.setdefault(child, writer) for writer, child in writers}


def _accounted(accounts: Rows) -> _Counts:
    names = recordings(accounts)
    counts: _Counts = {}
    for label in accounts.labels:
        if not label.startswith(DROPPED):
            continue
        rows = accounts.of_label(label)
        for code, total in zip(
            rows.process_codes.tolist(), rows.measurements.tolist(), strict=True
        ):
            key = (*rows.processes[code].named(names), label.removeprefix(DROPPED))
            # Torn counts are per account; all other counts are running totals.
            known = counts.get(key, 0.0)
            counts[key] = known + total if label == TORN else max(known, total)
    return counts


def _sampled(runtime: Rows, names: Mapping[str, str]) -> _Counts:
    """Return the last sample of each total of dropped observations."""
    counts: _Counts = {}
    for label in runtime.labels:
        if not label.startswith(_SAMPLED_DROPS):
            continue
        rows = runtime.of_label(label)
        rows = rows[np.argsort(rows.timepoints_ns, kind="stable")]
        groups = Groups(rows.process_codes, rows.measurements)
        for code, total in zip(groups.keys.tolist(), groups.last().tolist(), strict=True):
            key = (*rows.processes[code].named(names), label.removeprefix(_SAMPLED_DROPS))
            counts[key] = max(total, counts.get(key, total))
    return counts
