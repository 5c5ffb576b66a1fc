"""Reads what an autopsy needs of the published files of one writer.

A recording process does this for its siblings, so it reads with the standard library alone, few
files, and lets other threads run in between.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from heapq import nlargest
from typing import Any, NamedTuple

from aqltelemetry.observation import ACCOUNT, DURATION, RUNTIME
from aqltelemetry.sinks import file_names, stall_details
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, yield_gil

WINDOW_S = 600
"""How long before the last observation the memory is looked at, in seconds."""
LAST_ROWS = 8
LAST_STALLS = 5
_MAX_BYTES = 4 << 20
_MOST_FILES = 40
_ROWS_A_PIECE = 256
_NS_PER_US = 1000
_RSS = "rss"
_PAUSES = tuple(f"gc pause gen{generation}" for generation in range(3))


class Row(NamedTuple):
    """An observation; `at_ns` is in nanoseconds since the epoch."""

    at_ns: int
    value: float
    label: str
    prefix: str


class Published(NamedTuple):
    """What is known of a writer by its files.

    Attributes:
        pid: Its process; 0 if it has no file.
        begin_ns: The begin of its first file, in nanoseconds since the epoch; 0 if it has none.
        last_ns: Its last observation.
        rows: Its last durations, the last one first.
        memory: Its samples of resident memory of the last ten minutes, in order of time.
        collection: Its last garbage collection.
        stalls: Its last stalls, the last one first, as in `sinks.stall_details`.
        labels: The labels of durations in its last files.
    """

    pid: int
    begin_ns: int
    last_ns: int
    rows: Sequence[Row]
    memory: Sequence[Row]
    collection: Row | None
    stalls: Sequence[dict[str, Any]]
    labels: Sequence[str]


def read_published(directory: str, writer: str) -> Published:
    """Return what the files of a writer say. Raises OSError if the directory can't be read."""
    names = [
        name
        for each in syscalls.list_directory(directory)
        if writer in each and (name := file_names.parse(each)) is not None
    ]
    since_ns = max((name.to_ns for name in names), default=0) - WINDOW_S * NS_PER_S
    late = [name for name in names if name.to_ns >= since_ns]
    durations = _newest(directory, [name for name in late if name.prefix == DURATION])
    samples = list(_rows(directory, [name for name in late if name.prefix == RUNTIME]))
    # A name encloses the times in its file, to a microsecond.
    last_ns = max((name.to_ns - _NS_PER_US for name in names if name.prefix != ACCOUNT), default=0)
    memory = [row for row in samples if row.label == _RSS and row.at_ns >= since_ns]
    pauses = [row for row in samples if row.label in _PAUSES]
    return Published(
        names[0].pid if names else 0,
        min((name.from_ns for name in names), default=0),
        last_ns,
        nlargest(LAST_ROWS, durations),
        sorted(memory),
        max(pauses, default=None),
        _stalls(directory, writer),
        sorted({row.label for row in durations}),
    )


def recorded_labels(directory: str) -> set[str]:
    """Return the labels of durations in the newest files of all writers."""
    names = map(file_names.parse, syscalls.list_unsorted(directory))
    durations = [name for name in names if name is not None and name.prefix == DURATION]
    newest = nlargest(LAST_ROWS, durations, key=lambda name: name.to_ns)
    return {row.label for row in _rows(directory, newest)}


def _newest(directory: str, names: Sequence[FileName]) -> Sequence[Row]:
    chosen = nlargest(LAST_ROWS, names, key=lambda name: name.to_ns)
    return list(_rows(directory, chosen))


def _rows(directory: str, names: Sequence[FileName]) -> Iterator[Row]:
    for name in nlargest(_MOST_FILES, names, key=lambda name: name.to_ns):
        path = os.path.join(directory, str(name))
        # It may have been removed, or compressed.
        with suppress(OSError, ValueError), open(path, encoding="utf-8", newline="") as file:
            text = file.read(_MAX_BYTES)
            yield_gil()
            rows = csv.reader(text.splitlines(keepends=True))
            next(rows, None)
            for number, fields in enumerate(rows):
                if number % _ROWS_A_PIECE == 0:
                    yield_gil()
                if len(fields) == 4:  # noqa: PLR2004 - the four columns; the last row may be cut
                    yield Row(int(fields[0]), float(fields[1]), fields[2], name.prefix)


def _stalls(directory: str, writer: str) -> Sequence[dict[str, Any]]:
    found = [
        detail
        for name in syscalls.list_directory(directory)
        if name.startswith(stall_details.PREFIX + ".") and writer in name
        for detail in _details(os.path.join(directory, name))
    ]
    return nlargest(LAST_STALLS, found, key=lambda detail: int(detail["begin_ns"]))


def _details(path: str) -> Sequence[dict[str, Any]]:
    with suppress(OSError), open(path, "rb") as file:
        return stall_details.parse_lines(file.read(_MAX_BYTES))
    return ()
