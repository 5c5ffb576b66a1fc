"""Summarizes durations by label, process and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import OptionError
from aqltelemetry.quantities import SECONDS_FORM, parse_seconds
from aqltelemetry.reading.outcomes import OUTCOME_COLUMNS, OUTCOMES, Roles, roles
from aqltelemetry.reading.rows import Process, codes_type
from aqltelemetry.reading.summaries.cells import CellGroups, Cells
from aqltelemetry.reading.summaries.groups import Groups, Integers
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.later import pd

LABEL, PID, WRITER, BEGIN = "label", "pid", "writer", "begin"
LEVELS = (LABEL, PID, WRITER)
"""What a summary can be grouped by, apart from time."""
QUANTILES: Mapping[str, float] = MappingProxyType(
    {"p50_s": 0.5, "p90_s": 0.9, "p95_s": 0.95, "p99_s": 0.99, "p999_s": 0.999}
)
"""The quantile in each of these columns."""
COLUMNS = ("count", "per_s", *OUTCOME_COLUMNS.values(), *QUANTILES, "max_s", "sum_s")
"""The columns of a summary."""
_UNKNOWN_WITHOUT_ROWS = frozenset({*QUANTILES, "max_s"})
_MAX_BINS = 1_000_000
_END_NS = 2**63 - 1
_NONE = np.empty(0, np.intp)
_Codes = npt.NDArray[np.int64]


class _Units(NamedTuple):
    """What is grouped: cells, or, for time bins, single observations.

    `group` groups them by a key of each; `counts` is the number of observations of each, None
    for 1. The codes are indexes into `labels` and `processes`.
    """

    labels: Sequence[str]
    processes: Sequence[Process]
    label_codes: Integers
    process_codes: Integers
    counts: _Codes | None
    group: Callable[[Integers], Groups | CellGroups]

    def __len__(self) -> int:
        return len(self.label_codes)


class _Level(NamedTuple):
    """One thing that units are grouped by: a code below `size` for each unit.

    `values` returns the values of codes.
    """

    codes: Integers
    size: int
    values: Callable[[_Codes], pd.Index[Any]]


def parse_every(every: float | str | timedelta) -> int:
    """Return the length of a time bin in nanoseconds; raises OptionError."""
    try:
        seconds = parse_seconds(every) if isinstance(every, str | timedelta) else float(every)
        length_ns = round(seconds * NS_PER_S)
    except (ValueError, TypeError, OverflowError):
        length_ns = 0
    if not 0 < length_ns < _END_NS:
        raise OptionError("every", every, f"must be {SECONDS_FORM}, and more than 0")
    return length_ns


def parse_by(by: str | Iterable[str]) -> tuple[str, ...]:
    """Return what to group by as a tuple; raises OptionError."""
    names = (by,) if isinstance(by, str) else tuple(by)
    if not set(names) <= set(LEVELS) or len(set(names)) < len(names):
        raise OptionError("by", by, f"must be some of {', '.join(LEVELS)}")
    return names


def summarize(
    cells: Cells, by: Sequence[str], every_ns: int | None, recorded_s: float
) -> pd.DataFrame:
    """Return the summary of durations; see `Tables.summary`.

    Without `every_ns`, counts are divided by `recorded_s` for the rate.
    """
    known = roles(cells.labels)
    units = _cells(cells) if every_ns is None else _observations(cells)
    bins = [] if every_ns is None else [_bins(cells.timepoints_ns, every_ns)]
    levels = [*bins, *_levels(units, known, by)]
    if math.prod(level.size for level in levels) > _END_NS:
        raise OptionError("every", f"{(every_ns or 0) / NS_PER_S:g} s", "must be longer")
    table, keys = _table(units, known, levels, by_label=LABEL in by)
    table["per_s"] = table["count"] / (recorded_s if every_ns is None else every_ns / NS_PER_S)
    names = [*((BEGIN,) if every_ns is not None else ()), *by]
    found = pd.DataFrame(table, _index(keys, levels, names), list(COLUMNS))
    return found.iloc[_order(keys, table["count"], known, levels, names)]


def timeline(cells: Cells, every_ns: int) -> pd.DataFrame:
    """Return the summary of each time bin, from the first to the last one with any rows."""
    found = summarize(cells, (), every_ns, np.nan)
    if found.empty:
        return found
    begins: Any = found.index
    first_ns, last_ns = int(begins[0].value), int(begins[-1].value)
    bins = (last_ns - first_ns) // every_ns + 1
    if bins > _MAX_BINS:
        rule = f"must be longer: these would be {bins:,} bins, more than {_MAX_BINS:,}"
        raise OptionError("every", f"{every_ns / NS_PER_S:g} s", rule)
    every_bin = pd.DatetimeIndex(first_ns + np.arange(bins) * every_ns, name=BEGIN)
    zeros = {name: 0 for name in COLUMNS if name not in _UNKNOWN_WITHOUT_ROWS}
    return found.reindex(every_bin).fillna(zeros).astype(found.dtypes.to_dict())


def _cells(cells: Cells) -> _Units:
    codes = cells.label_codes, cells.process_codes
    return _Units(cells.labels, cells.processes, *codes, cells.counts, cells.grouped)


def _observations(cells: Cells) -> _Units:
    codes = [
        np.repeat(own.astype(codes_type(len(values))), cells.counts)
        for own, values in (
            (cells.label_codes, cells.labels),
            (cells.process_codes, cells.processes),
        )
    ]

    def group(keys: Integers) -> Groups:
        return Groups(keys, cells.measurements)

    return _Units(cells.labels, cells.processes, codes[0], codes[1], None, group)


def _table(
    units: _Units, known: Roles, levels: Sequence[_Level], *, by_label: bool
) -> tuple[dict[str, npt.NDArray[Any]], _Codes]:
    """Return the columns of the summary, and the key of each group."""
    all_keys = _keys(levels, len(units))
    is_outcome = known.outcomes >= 0
    failed = np.flatnonzero(is_outcome[units.label_codes]) if is_outcome.any() else _NONE
    failed_keys, outcomes = all_keys[failed], known.outcomes[units.label_codes[failed]]
    weights = np.ones(len(failed)) if units.counts is None else units.counts[failed]
    # Each request counts once, unless its first byte has a group of its own.
    is_part = is_outcome if by_label else known.is_part
    if is_part.any():
        all_keys[is_part[units.label_codes]] = -1
    groups = units.group(all_keys)
    keys = (
        np.union1d(groups.keys, failed_keys.astype(np.int64)) if levels else np.zeros(1, np.int64)
    )
    at = np.searchsorted(keys, groups.keys)
    table: dict[str, npt.NDArray[Any]] = {
        "count": np.zeros(len(keys), np.int64),
        **{name: np.full(len(keys), np.nan) for name in (*QUANTILES, "max_s")},
        "sum_s": np.zeros(len(keys)),
    }
    table["count"][at], table["max_s"][at] = groups.counts, groups.max()
    table["sum_s"][at] = groups.sum()
    for name, figures in zip(QUANTILES, groups.quantiles([*QUANTILES.values()]).T, strict=True):
        table[name][at] = figures
    for number, word in enumerate(OUTCOMES):
        chosen = outcomes == number
        places = np.searchsorted(keys, failed_keys[chosen])
        counts = np.bincount(places, weights[chosen], minlength=len(keys))
        table[OUTCOME_COLUMNS[word]] = counts.astype(np.int64)
    return table, keys


def _levels(units: _Units, known: Roles, by: Sequence[str]) -> Sequence[_Level]:
    levels = []
    for name in by:
        if name == LABEL:
            index = pd.Index(list(units.labels), dtype="str")
            levels.append(_level(units.label_codes, known.bases, index))
        else:
            all_values = [getattr(process, name) for process in units.processes]
            index = pd.Index(sorted(set(all_values)), dtype=np.int64 if name == PID else "str")
            levels.append(_level(units.process_codes, index.get_indexer(all_values), index))
    return levels


def _bins(timepoints_ns: _Codes, every_ns: int) -> _Level:
    """Return the level of time bins, whose codes count from the first bin that occurs."""
    bins = timepoints_ns // every_ns
    first, last = (int(bins.min()), int(bins.max())) if len(bins) else (0, 0)

    def begins(codes: _Codes) -> pd.Index[Any]:
        return pd.DatetimeIndex((codes + first) * every_ns)

    return _Level(bins - first, last - first + 1, begins)


def _level(codes: Integers, new_codes: Integers, index: pd.Index[Any]) -> _Level:
    return _Level(new_codes.astype(codes.dtype)[codes], max(len(index), 1), index.take)


def _keys(levels: Sequence[_Level], rows: int) -> Integers:
    """Return one number for the codes of all levels, for each row."""
    return _encoded([level.codes for level in levels], levels, rows)


def _encoded(codes: Sequence[Integers], levels: Sequence[_Level], rows: int) -> Integers:
    kind = np.min_scalar_type(-math.prod(level.size for level in levels) - 1)
    if not levels:
        return np.zeros(rows, kind)
    keys: Integers = codes[0].astype(kind)
    for own, level in zip(codes[1:], levels[1:], strict=True):
        keys *= level.size
        keys += own.astype(kind, copy=False)
    return keys


def _decoded(keys: _Codes, levels: Sequence[_Level]) -> list[_Codes]:
    """Return the codes of each level."""
    codes: list[_Codes] = []
    for level in reversed(levels):
        keys, own = np.divmod(keys, level.size)
        codes.insert(0, own)
    return codes


def _order(
    keys: _Codes, counts: _Codes, known: Roles, levels: Sequence[_Level], names: Sequence[str]
) -> npt.NDArray[np.intp]:
    """Return the groups in order of time, then of count; a first byte follows its request."""
    codes = _decoded(keys, levels)
    leader = np.arange(len(keys))
    if LABEL in names:
        at = names.index(LABEL)
        totals = known.totals[codes[at]]
        codes_of_totals = [*codes[:at], np.maximum(totals, 0), *codes[at + 1 :]]
        wanted = _encoded(codes_of_totals, levels, len(keys))
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        leader = np.where((totals >= 0) & (keys[place] == wanted), place, leader)
    begins = codes[0] if BEGIN in names else np.zeros(len(keys))
    follows = leader != np.arange(len(keys))
    return np.lexsort((follows, leader, -counts[leader], begins))


def _index(keys: _Codes, levels: Sequence[_Level], names: Sequence[str]) -> pd.Index[Any]:
    codes = _decoded(keys, levels)
    values = [level.values(own) for level, own in zip(levels, codes, strict=True)]
    if not values:
        return pd.RangeIndex(len(keys))
    if len(values) == 1:
        return values[0].rename(names[0])
    return pd.MultiIndex.from_arrays(values, names=list(names))
