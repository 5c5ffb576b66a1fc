"""Reads the rows of archives, and of no more row groups than what is wanted may be in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import ArchiveError
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.archives.encoding import AT_NS, LABEL, VALUE, VALUE_NS
from aqltelemetry.reading.csv_frames import EVERYTHING, Wanted
from aqltelemetry.reading.rows import Codes, Process, Rows, codes_type
from aqltelemetry.sinks import archives
from aqltelemetry.sinks.archives import Member, members_of
from aqltelemetry.sinks.file_names import FileName

FILE = "file"
"""Column: the place of a row's CSV file in the list of files in the metadata."""


class Keys(NamedTuple):
    """The labels and the processes of the rows of a row group; see `Rows`."""

    label_codes: Codes
    labels: Sequence[str]
    process_codes: Codes
    processes: Sequence[Process]


class Part(NamedTuple):
    """Rows of an archive; `file_codes` are indexes into its members."""

    rows: Rows
    file_codes: npt.NDArray[np.int32]


def read_archive(
    path: str,
    wanted: Wanted = EVERYTHING,
    chosen: Callable[[FileName], bool] | None = None,
) -> list[Rows]:
    """Return the wanted rows of an archive, those of each row group for themselves.

    They are not joined, since those of several archives are joined at once.

    Args:
        path: The archive.
        wanted: The times, labels and PIDs.
        chosen: Says of each CSV file in it whether its rows are wanted; None for all.

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
        found.append(wanted.among(rows))
    return found


def read_parts(path: str) -> Iterator[Part]:
    """Yield all rows of an archive, in parts that fit into memory; raises as `read_archive`."""
    yield from _parts(path, archives.read_members(path), EVERYTHING)


def read_keys(path: str) -> list[Keys]:
    """Return the labels and processes of all rows, for each row group; raises as `read_archive`."""
    codes, processes = _processes(members_of(path))
    with _opened(path) as file:
        read = [_read(file, group, [LABEL, FILE]) for group in range(file.num_row_groups)]
        return [_keys(found, codes[found[FILE].to_numpy()], processes) for found in read]


def read_columns(path: str) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Yield the times and the values of each row group; raises as `read_archive`."""
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            yield _columns(_read(file, group, [AT_NS, VALUE_NS, VALUE]))


def _parts(path: str, members: Sequence[Member], wanted: Wanted) -> Iterator[Part]:
    """Yield the rows of each row group: its columns stay in the processor's cache."""
    codes, processes = _processes(members)
    with _opened(path) as file:
        for group in _groups(file.metadata, wanted):
            found = _read(file, group, [AT_NS, VALUE_NS, VALUE, LABEL, FILE])
            file_codes = found[FILE].to_numpy()
            times, values = _columns(found)
            keys = _keys(found, codes[file_codes], processes)
            yield Part(Rows(times, values, *keys), file_codes)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open an archive; what fails is raised as by `read_archive`."""
    pa = encoding.pyarrow()
    try:
        with pa.parquet.ParquetFile(path, read_dictionary=[LABEL]) as file:
            yield file
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, IndexError) as exc:
        raise ArchiveError(path, f"it is damaged: {exc}") from exc


def _read(file: Any, group: int, columns: list[str]) -> Any:
    # Several archives are read at the same time instead.
    return file.read_row_group(group, columns, use_threads=False)


def _processes(members: Sequence[Member]) -> tuple[Codes, Sequence[Process]]:
    """Return for each file of an archive which process has written it, and the processes."""
    processes = sorted({_process(member) for member in members})
    number = {process: code for code, process in enumerate(processes)}
    kind = codes_type(len(processes))
    return np.array([number[_process(each)] for each in members], kind), processes


def _process(member: Member) -> Process:
    return Process(member.name.pid, member.name.writer)


def _keys(found: Any, process_codes: Codes, processes: Sequence[Process]) -> Keys:
    if not len(found):
        return Keys(np.empty(0, codes_type(0)), [], process_codes, processes)
    labels = found[LABEL].unify_dictionaries().combine_chunks()
    texts = labels.dictionary.to_pylist()
    return Keys(
        labels.indices.to_numpy().astype(codes_type(len(texts))), texts, process_codes, processes
    )


def _columns(found: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    # No view of pyarrow's memory is kept for long, so that it uses that again.
    return found[AT_NS].to_numpy(), encoding.doubles(found)


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
