"""Summarizes stalls by their cause and their line, with the requests that they delayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.outcomes import roles
from aqltelemetry.reading.rows import Process
from aqltelemetry.reading.stalls.joined import texts
from aqltelemetry.reading.stalls.overlaps import Stalls, lines_of
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.reading.summaries.recorded_time import lengths_ns
from aqltelemetry.reading.summaries.threads import map_all
from aqltelemetry.system.later import pd

MAX_SEARCHED = 100
"""For how many lines, those with the most time, the delayed requests are counted."""
_CHUNK_ROWS = 1 << 18
_CHUNK_PAIRS = 1 << 20
_Counts: TypeAlias = npt.NDArray[np.int64]


def stall_lines(
    stalls: pd.DataFrame, cells: Cells, of_process: Mapping[Process, Stalls]
) -> pd.DataFrame:
    """Return a row for each cause and line; see `Tables.stall_lines`."""
    of_request = stalls["in_thread"] != ""
    places = [*zip(stalls["cause"], lines_of(stalls), stalls["function"], of_request, strict=True)]
    numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
    codes = np.array([numbers[place] for place in places], np.int64)
    grouped = stalls.groupby(codes)
    total_s = grouped["length_s"].sum().to_numpy(np.float64)
    is_searched = np.zeros(len(numbers), bool)
    is_searched[np.argsort(-total_s, kind="stable")[:MAX_SEARCHED]] = True
    searched = np.where(is_searched[codes], codes, -1)
    delayed = _delayed(cells, of_process, searched, len(numbers))
    routes = [_routes(cells, counts) for counts in delayed]
    found = pd.DataFrame(
        {
            "cause": texts([cause for cause, *_ in numbers]),
            "line": texts([line for _, line, *_ in numbers]),
            "function": texts([function for *_, function, _ in numbers]),
            "of_requests": np.array([is_of for *_, is_of in numbers], bool),
            "count": np.bincount(codes, minlength=len(numbers)),
            "total_s": total_s,
            "longest_s": grouped["length_s"].max().to_numpy(np.float64),
            "first": pd.DatetimeIndex(grouped["begin"].min()),
            "last": pd.DatetimeIndex(grouped["end"].max()),
            "workers": grouped["writer"].nunique().to_numpy(np.int64),
            "delayed": np.array([sum(each.values()) for each in routes], np.int64),
            "routes": pd.Series(routes, dtype=object),
            "handlers": _counted_by(codes, len(numbers), [[each] for each in stalls["route"]]),
            "blocks": _counted_by(codes, len(numbers), stalls["blocks"]),
        }
    )
    order = np.lexsort((found["first"].to_numpy(), -found["total_s"].to_numpy()))
    return found.iloc[order].reset_index(drop=True)


def _counted_by(codes: _Counts, groups: int, names: Iterable[Sequence[str]]) -> pd.Series:
    """Return for each group in how many of its stalls each name is, the most frequent first."""
    found: list[Counter[str]] = [Counter() for _ in range(groups)]
    for code, each in zip(codes.tolist(), names, strict=True):
        found[code].update(name for name in each if name)
    return pd.Series([dict(each.most_common()) for each in found], dtype=object)


def _routes(cells: Cells, counts: _Counts) -> Mapping[str, int]:
    """Return how many requests of each label were delayed, the most frequent first."""
    order = np.argsort(-counts, kind="stable")
    return {cells.labels[code]: int(counts[code]) for code in order.tolist() if counts[code]}


def _delayed(
    cells: Cells, of_process: Mapping[Process, Stalls], codes: _Counts, groups: int
) -> _Counts:
    """Return for each group and label how many durations overlap a stall of the group.

    A duration counts once for each group. Outcomes, times to the first byte and lives of
    connections do not count, and neither do blocks if there are requests: they are parts of them.
    """
    known = roles(cells.labels)
    is_wanted = ~known.is_part & np.array([not _is_connection(each) for each in cells.labels], bool)
    are_requests = np.array([label.endswith("]") for label in cells.labels], bool) & is_wanted
    is_wanted = are_requests if are_requests.any() else is_wanted
    counts = np.zeros((groups, len(cells.labels)), np.int64)
    parts = [
        (label, stalls, slice(at, min(at + _CHUNK_ROWS, end)))
        for label, process, begin, end in zip(
            cells.label_codes.tolist(),
            cells.process_codes.tolist(),
            cells.begins.tolist(),
            cells.ends.tolist(),
            strict=True,
        )
        if is_wanted[label] and (stalls := of_process.get(cells.processes[process])) is not None
        for at in range(begin, end, _CHUNK_ROWS)
    ]

    def counted(part: tuple[int, Stalls, slice]) -> _Counts:
        _, stalls, rows = part
        ends_ns = cells.timepoints_ns[rows]
        begins_ns = ends_ns - lengths_ns(cells.measurements[rows])
        return _overlapping(begins_ns, ends_ns, stalls, codes[stalls.numbers])

    rows = sum(part.stop - part.start for *_, part in parts)
    for (label, *_), found in zip(parts, map_all(counted, parts, rows), strict=True):
        counts[: len(found), label] += found
    return counts


def _overlapping(begins_ns: _Counts, ends_ns: _Counts, stalls: Stalls, groups: _Counts) -> _Counts:
    """Return for each group how many spans of time overlap a stall of it.

    `groups` are those of the stalls; -1 is none.
    """
    found = np.zeros(int(groups.max(initial=-1)) + 1, np.int64)
    first, last = stalls.near(begins_ns, ends_ns)
    is_near = first < last
    first, last, begins_ns = first[is_near], last[is_near], begins_ns[is_near]
    pairs = np.cumsum(last - first)
    if len(pairs) and pairs[-1] > len(pairs) * len(found):
        # Most of them overlap many stalls of each group.
        ends_ns = ends_ns[is_near]
        for group in np.unique(groups[groups >= 0]).tolist():
            own = stalls.chosen(groups == group)
            found[group] = np.count_nonzero(own.overlap(begins_ns, ends_ns))
        return found
    starts = np.arange(0, pairs[-1] if len(pairs) else 0, _CHUNK_PAIRS)
    for begin, end in pairwise([*np.searchsorted(pairs, starts).tolist(), len(pairs)]):
        rows = slice(begin, end)
        found += _counted(first[rows], last[rows], begins_ns[rows], stalls, groups)
    return found


def _counted(
    first: _Counts, last: _Counts, begins_ns: _Counts, stalls: Stalls, groups: _Counts
) -> _Counts:
    """Return the same for spans of time that are near the stalls from `first` to `last`."""
    size = int(groups.max(initial=-1)) + 1
    lengths = last - first
    spans = np.repeat(np.arange(len(lengths)), lengths)
    offsets = np.arange(len(spans)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    numbers = first[spans] + offsets
    own = groups[numbers]
    overlaps = (own >= 0) & (stalls.ends_ns[numbers] > begins_ns[spans])
    pairs = np.unique(spans[overlaps] * size + own[overlaps])
    return np.bincount(pairs % size, minlength=size)


def _is_connection(label: str) -> bool:
    return label.endswith((" websocket", " events"))
