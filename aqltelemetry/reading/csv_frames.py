"""Reads the observations of CSV files, many files at a time."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import local
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading import parsers
from aqltelemetry.reading.file_groups import GONE, GroupReader
from aqltelemetry.reading.outcomes import with_outcomes
from aqltelemetry.reading.row_parser import RowParser
from aqltelemetry.reading.rows import Rows, join
from aqltelemetry.sinks import file_names

_NS_PER_US = 1000
_LeaveOut: TypeAlias = Callable[[str, str], None]
_Progress: TypeAlias = Callable[[int, int], object]
# Files that a thread reads before it takes the next ones, and the largest number of threads.
_CHUNK_FILES = 32
_MAX_THREADS = 8


class ForeignFileWarning(UserWarning):
    """Warns that a CSV file was not read: it is damaged, unreadable, or not a telemetry file."""


def warn(path: str, reason: str) -> None:
    """Warn that a file was not read."""
    warnings.warn(f"{path}: not read: {reason}", ForeignFileWarning, 3)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Selects observations by time, `since_ns <= t < until_ns`, label and PID; None for all.

    Of the `labels`, the outcomes are selected too: without them, errors would count as none.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    labels: Collection[str] | None = None
    pids: Collection[int] | None = None

    def all_labels(self) -> Collection[str] | None:
        """Return the labels and those of their outcomes; None for all."""
        return None if self.labels is None else with_outcomes(self.labels)

    def files(self, names: Iterable[str]) -> list[str]:
        """Return the files that may contain such observations, by their names."""
        if self.since_ns is None and self.until_ns is None:
            return list(names)
        since = "" if self.since_ns is None else file_names.stamp(self.since_ns)
        # Times in names are rounded down to a microsecond; round `until_ns` up.
        until = "~" if self.until_ns is None else file_names.stamp(self.until_ns + _NS_PER_US - 1)
        return [name for name in names if file_names.may_overlap(name, since, until)]

    def of(self, prefix: str) -> Wanted:
        """Return what is wanted of a prefix: an account has its own labels, which all count."""
        return replace(self, labels=None) if prefix == ACCOUNT else self

    def among(self, rows: Rows) -> Rows:
        """Return the selected rows."""
        tests: list[Any] = []
        if self.since_ns is not None:
            tests.append(rows.timepoints_ns >= self.since_ns)
        if self.until_ns is not None:
            tests.append(rows.timepoints_ns < self.until_ns)
        labels = self.all_labels()
        if labels is not None:
            known = np.array([label in labels for label in rows.labels], dtype=bool)
            tests.append(known[rows.label_codes])
        if self.pids is not None:
            known = np.array([process.pid in self.pids for process in rows.processes], dtype=bool)
            tests.append(known[rows.process_codes])
        if not tests:
            return rows
        mask = np.logical_and.reduce(tests)
        return rows if mask.all() else rows[mask]


EVERYTHING = Wanted()


class _Chunk(NamedTuple):
    """What was read of some files: their rows, and the files that were left out, and why."""

    rows: Sequence[Rows]
    left_out: Sequence[tuple[str, str]]


def read_rows(
    directory: str,
    names: Iterable[str],
    wanted: Wanted = EVERYTHING,
    leave_out: _LeaveOut | None = None,
    progress: _Progress | None = None,
) -> Rows:
    """Return the rows of CSV files, in the order of the files.

    Files named `*.gz` and `*.zst` are decompressed. Header and fields may be quoted; files of
    the older format have a space after each comma.

    For a file that was removed meanwhile (`GONE`), is damaged, unreadable or
    not a telemetry file, `leave_out` is called with its name and the reason; if it is None, a
    ForeignFileWarning is issued. If labels are selected, damage in other rows may go
    unnoticed. `progress` is called with the number of files that were read so far, and the
    number of all.
    """

    def warn_of(name: str, reason: str) -> None:
        warn(os.path.join(directory, name), reason)

    files = list(names)
    chunks = [files[at : at + _CHUNK_FILES] for at in range(0, len(files), _CHUNK_FILES)]
    found: list[Rows] = []
    reader, threads = _Reader(directory, wanted), _threads(len(chunks), wanted)
    with ThreadPoolExecutor(threads, "aqltelemetry-reading") as pool:
        map_chunks = map if threads == 1 else pool.map
        for number, chunk in enumerate(map_chunks(reader.read, chunks), 1):
            found += chunk.rows
            if progress is not None:
                progress(min(number * _CHUNK_FILES, len(files)), len(files))
            for name, reason in chunk.left_out:
                if leave_out is not None or reason != GONE:
                    (leave_out or warn_of)(name, reason)
    return join(found)


def _threads(chunks: int, wanted: Wanted) -> int:
    """Return how many threads read: several, if the parser needs no interpreter lock."""
    # Searching for labels needs that lock, too.
    if parsers.compiled is None or wanted.labels is not None:
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), chunks, _MAX_THREADS))


class _Reader(local):
    """Reads files into buffers that are used again; each thread has its own."""

    def __init__(self, directory: str, wanted: Wanted) -> None:
        self._directory = directory
        self._wanted = wanted
        left_out: list[tuple[str, str]] = []

        # A method would refer to its reader, which would then keep its buffers for a while.
        def leave_out(name: str, reason: str) -> None:
            left_out.append((name, reason))

        self._left_out = left_out
        self._groups = GroupReader(wanted.labels, leave_out)
        self._parser = RowParser(leave_out)

    def read(self, names: Sequence[str]) -> _Chunk:
        """Return the wanted rows of some files."""
        self._left_out.clear()
        found: list[Rows] = []
        number = 0
        if self._wanted.labels is None:
            rows, number = self._parser.parse_files(self._directory, names)
            found += rows
        if number < len(names):
            for group in self._groups.groups(self._directory, names[number:]):
                found += self._parser.parse(group)
        # Joined here, in each thread, so that joining all of them only copies.
        return _Chunk([join([self._wanted.among(rows)]) for rows in found], [*self._left_out])
