"""Reads the rows of archives, and of no more row groups than what is wanted may be in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import ArchiveError
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.archives.encoding import AT_NS, LABEL, VALUE, VALUE_NS
from aqltelemetry.reading.csv_frames import EVERYTHING, Wanted
from aqltelemetry.reading.rows import Process, Rows, codes_type
from aqltelemetry.sinks import archives
from aqltelemetry.sinks.archives import Member, members_of
from aqltelemetry.sinks.file_names import FileName

FILE = "file"
"""Column: the place of a row's CSV file in the list of files in the metadata."""


class Part(NamedTuple):
    """Rows of an archive; `file_codes` are indexes into its members."""

    rows: Rows
    file_codes: npt.NDArray[np.int32]


class Room:
    """Where the times and values of archives are put, so that joining them copies nothing."""

    def __init__(self, times: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        self._times = times
        self._values = values

    @staticmethod
    def of(counts: Sequence[int]) -> list[Room]:
        """Return rooms for so many rows each, which are next to each other."""
        times, values = np.empty(sum(counts), np.int64), np.empty(sum(counts))
        ends = np.cumsum(counts, dtype=np.int64).tolist()
        spans = [slice(end - count, end) for count, end in zip(counts, ends, strict=True)]
        return [Room(times[span], values[span]) for span in spans]

    def take(self, rows: Rows) -> Rows:
        """Put rows behind those that were put here before; return them, as they are here."""
        count = len(rows)
        if count > len(self._times):
            return rows
        times, values = self._times[:count], self._values[:count]
        self._times, self._values = self._times[count:], self._values[count:]
        times[:], values[:] = rows.timepoints_ns, rows.measurements
        return replace(rows, timepoints_ns=times, measurements=values)


def read_archive(
    path: str,
    wanted: Wanted = EVERYTHING,
    chosen: Callable[[FileName], bool] | None = None,
    room: Room | None = None,
) -> list[Rows]:
    """Return the wanted rows of an archive, those of each row group for themselves.

    They are not joined, since those of several archives are joined at once.

    Args:
        path: The archive.
        wanted: The times, labels and PIDs.
        chosen: Says of each CSV file in it whether its rows are wanted; None for all.
        room: Where to put them; None for arrays of their own.

    Raises:
        FileNotFoundError: It was removed.
        ArchiveError: It is damaged.
        MissingExtraError: pyarrow is not installed.
    """
    members = members_of(path)
    is_chosen = np.ones(len(members), bool)
    if chosen is not None:
        is_chosen[:] = [chosen(member.name) for member in members]
    if wanted.pids is not None:
        is_chosen &= [member.name.pid in wanted.pids for member in members]
    if not is_chosen.any():
        return []
    found = []
    for part in _parts(path, members, wanted):
        rows = part.rows if is_chosen.all() else part.rows[is_chosen[part.file_codes]]
        rows = wanted.among(rows)
        found.append(rows if room is None else room.take(rows))
    return found


def count_rows(path: str, chosen: Callable[[FileName], bool]) -> int:
    """Return how many rows the chosen files in an archive have; 0 if it can't be read."""
    with suppress(OSError):
        return sum(member.rows for member in members_of(path) if chosen(member.name))
    return 0


def read_parts(path: str) -> Iterator[Part]:
    """Yield all rows of an archive, in parts that fit into memory; raises as `read_archive`."""
    yield from _parts(path, archives.read_members(path), EVERYTHING)


def _parts(path: str, members: Sequence[Member], wanted: Wanted) -> Iterator[Part]:
    """Yield the rows of each row group: its columns stay in the processor's cache."""
    pa = encoding.pyarrow()
    processes = sorted({_process(member) for member in members})
    number = {process: code for code, process in enumerate(processes)}
    codes = np.array([number[_process(each)] for each in members], codes_type(len(processes)))
    names = [AT_NS, VALUE_NS, VALUE, LABEL, FILE]
    try:
        with pa.parquet.ParquetFile(path, read_dictionary=[LABEL]) as file:
            for group in _groups(file.metadata, wanted):
                # Several archives are read at the same time instead.
                found = file.read_row_group(group, names, use_threads=False)
                yield _part(found, codes, processes)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, IndexError) as exc:
        raise ArchiveError(path, f"it is damaged: {exc}") from exc


def _process(member: Member) -> Process:
    return Process(member.name.pid, member.name.writer)


def _part(found: Any, codes: npt.NDArray[Any], processes: Sequence[Process]) -> Part:
    labels = found[LABEL].unify_dictionaries().combine_chunks()
    texts = labels.dictionary.to_pylist() if len(found) else []
    indexes = labels.indices.to_numpy() if len(found) else np.empty(0, np.int32)
    file_codes = found[FILE].to_numpy()
    rows = Rows(
        found[AT_NS].to_numpy(),  # so that pyarrow uses its memory again
        encoding.doubles(found),
        indexes.astype(codes_type(len(texts))),
        texts,
        codes[file_codes],
        processes,
    )
    return Part(rows, file_codes)


def _groups(metadata: Any, wanted: Wanted) -> Iterator[int]:
    """Yield the row groups that may contain such rows, by their statistics."""
    columns = {metadata.schema.column(at).name: at for at in range(metadata.num_columns)}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        times, labels = (group.column(columns[name]).statistics for name in (AT_NS, LABEL))
        if _overlaps(times, wanted) and _contains(labels, wanted.labels):
            yield number


def _overlaps(times: Any, wanted: Wanted) -> bool:
    if times is None or not times.has_min_max:
        return True
    since_ns, until_ns = wanted.since_ns, wanted.until_ns
    return (since_ns is None or times.max >= since_ns) and (
        until_ns is None or times.min < until_ns
    )


def _contains(labels: Any, wanted: Collection[str] | None) -> bool:
    if wanted is None or labels is None or not labels.has_min_max:
        return True
    return any(labels.min <= label <= labels.max for label in wanted)
