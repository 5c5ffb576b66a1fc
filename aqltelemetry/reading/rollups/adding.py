"""Adds up observations and roll-ups, by interval and label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rollups.buckets import ZERO, bucket_numbers
from aqltelemetry.reading.rollups.files import RollUp
from aqltelemetry.reading.rows import Rows

_AT_ONCE = 1 << 20
_Integers = npt.NDArray[np.int64]


def single(rows: Rows) -> RollUp:
    """Return observations as a roll-up with a row for each."""
    values = rows.measurements
    is_number = ~np.isnan(values)
    buckets = bucket_numbers(values)
    is_positive = buckets != ZERO
    ones = np.ones(len(values), np.int64)
    return RollUp(
        rows.timepoints_ns,
        ones,
        rows.label_codes.astype(np.int64),
        rows.labels,
        ones,
        values,
        values,
        values,
        (is_number & ~is_positive).astype(np.int64),
        is_positive.astype(np.int64),
        buckets[is_positive],
        ones[is_positive],
    )


def added(parts: Iterable[RollUp], interval_ns: int | None) -> RollUp:
    """Add up roll-ups, with intervals of one length; return a row for each interval and label.

    An interval counts where it begins. Rows are sorted by label and begin.

    Args:
        parts: What to add up, which is read in parts that fit into memory.
        interval_ns: The length of an interval, in nanoseconds; None for one interval, from 0 on.
    """
    pending: list[RollUp] = []
    rows = 0
    for part in parts:
        pending.append(part)
        rows += len(part.begins_ns)
        if rows > _AT_ONCE:
            pending = [_added(pending, interval_ns)]
            rows = 0
    return _added(pending, interval_ns)


def _added(parts: Sequence[RollUp], interval_ns: int | None) -> RollUp:
    labels = sorted({label for part in parts for label in part.labels})
    place = {label: number for number, label in enumerate(labels)}
    codes = _joined(
        [
            np.array([place[each] for each in part.labels], np.int64)[part.label_codes]
            for part in parts
            if len(part.begins_ns)
        ]
    )
    begins_ns = _joined([part.begins_ns for part in parts])
    begins_ns = begins_ns - begins_ns % interval_ns if interval_ns else np.zeros_like(begins_ns)
    order = np.lexsort((begins_ns, codes))
    is_first = _changes(codes[order], begins_ns[order])
    groups = np.empty(len(order), np.int64)
    groups[order] = np.cumsum(is_first) - 1
    first = order[is_first]
    size = len(first)
    lengths, buckets, counts = _buckets(parts, groups, size)
    return RollUp(
        begins_ns[first],
        np.full(size, interval_ns or 0, np.int64),
        codes[first],
        labels,
        _sums(groups, _joined([part.counts for part in parts]), size),
        _sums_of_numbers(groups, _joined([part.sums for part in parts]), size),
        _extremes(np.fmin, groups, _joined([part.mins for part in parts]), size),
        _extremes(np.fmax, groups, _joined([part.maxs for part in parts]), size),
        _sums(groups, _joined([part.not_positive for part in parts]), size),
        lengths,
        buckets,
        counts,
    )


def _buckets(
    parts: Sequence[RollUp], groups: _Integers, size: int
) -> tuple[_Integers, _Integers, _Integers]:
    """Return lengths, numbers and counts of the buckets of each group."""
    of_group = np.repeat(groups, _joined([part.lengths for part in parts]))
    numbers = _joined([part.buckets for part in parts])
    counts = _joined([part.bucket_counts for part in parts])
    order = np.lexsort((numbers, of_group))
    of_group, numbers = of_group[order], numbers[order]
    first = np.flatnonzero(_changes(of_group, numbers))
    found = np.add.reduceat(counts[order], first) if len(first) else counts
    return np.bincount(of_group[first], minlength=size), numbers[first], found


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)


def _changes(*columns: _Integers) -> npt.NDArray[np.bool_]:
    """Return which rows differ from the one before."""
    found = np.ones(len(columns[0]), bool)
    found[1:] = np.logical_or.reduce([each[1:] != each[:-1] for each in columns])
    return found


def _sums(groups: _Integers, values: _Integers, size: int) -> _Integers:
    found = np.zeros(size, np.int64)
    np.add.at(found, groups, values)
    return found


def _sums_of_numbers(
    groups: _Integers, values: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.float64]:
    """Return the sums without NaN, and NaN for a group that has nothing else."""
    is_number = ~np.isnan(values)
    found = np.zeros(size)
    np.add.at(found, groups[is_number], values[is_number])
    found[np.bincount(groups[is_number], minlength=size) == 0] = np.nan
    return found


def _extremes(
    choose: np.ufunc, groups: _Integers, values: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.float64]:
    found = np.full(size, np.nan)
    choose.at(found, groups, values)
    return found
