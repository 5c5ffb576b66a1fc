"""Makes CSV files of the files that are in an archive.

The rows are those that were published, each file's under its name. Only their order within the
file may differ: they are sorted by label and time.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import (
    ACCOUNT,
    CSV_HEADER,
    DURATION,
    Batch,
    Column,
    Kind,
    SegmentId,
    Series,
)
from aqltelemetry.reading.archives.checksums import checksum
from aqltelemetry.reading.archives.rows import read_parts
from aqltelemetry.reading.rows import Rows
from aqltelemetry.sinks import archives
from aqltelemetry.sinks.archives import Member
from aqltelemetry.sinks.csv_rows import Memory, format_batch, joined
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

_MODE = 0o640
_MAX_EXACT = float(1 << 53)
_MAX_SUM = 1 << 64
_NO_LIMIT = 1 << 40


@dataclass(slots=True)
class Written:
    """What was written of a file, to be compared with what the archive says of it."""

    member: Member
    path: str
    rows: int = 0
    checksum: int = 0
    has_header: bool = field(default=False)


def write_files(path: str, names: Collection[str], directory: str) -> Sequence[Written]:
    """Write files of an archive into a directory, and return what was written of each.

    Raises:
        FileNotFoundError: The archive was removed.
        OSError: A file can't be written.
        ArchiveError: The archive is damaged; an OSError too.
    """
    members = archives.read_members(path)
    files = {
        code: Written(member, os.path.join(directory, str(member.name)))
        for code, member in enumerate(members)
        if str(member.name) in names
    }
    is_wanted = np.zeros(len(members), bool)
    is_wanted[[*files]] = True
    memory = Memory()
    for part in read_parts(path):
        for code, rows in _by_file(part.rows, part.file_codes, is_wanted):
            _append(files[code], rows, memory)
    for each in files.values():
        if not each.has_header:
            _write(each, [])
    return [*files.values()]


def _by_file(
    rows: Rows, codes: npt.NDArray[np.int32], is_wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, Rows]]:
    """Yield the rows of each wanted file, which stay in their order."""
    chosen = np.flatnonzero(is_wanted[codes])
    chosen = chosen[np.argsort(codes[chosen], kind="stable")]
    found = codes[chosen]
    begins = np.flatnonzero(np.diff(found, prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(found)], strict=True):
        yield int(found[begin]), rows[chosen[begin:end]]


def _append(file: Written, rows: Rows, memory: Memory) -> None:
    name = file.member.name
    columns = [*_columns(rows, name.prefix)]
    batch = Batch(SegmentId(name.writer, name.first), name.pid, _NO_LIMIT, columns)
    blocks = format_batch(batch, lambda: None, memory)[name.prefix]
    _write(file, joined(blocks))
    file.rows += len(rows)
    file.checksum = (file.checksum + checksum(rows)) % _MAX_SUM


def _columns(rows: Rows, prefix: str) -> Iterator[Column]:
    """Yield rows as the columns that a recording writes: durations are whole nanoseconds."""
    begins = np.flatnonzero(np.diff(rows.label_codes, prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
        times, values = rows.timepoints_ns[begin:end], rows.measurements[begin:end]
        label = rows.labels[rows.label_codes[begin]]
        if prefix == ACCOUNT:
            numbers = [int(value) for value in values.tolist()]
            yield Column(Series(prefix, label, Kind.FLOAT), times.tolist(), numbers)
            continue
        is_exact = np.zeros(len(values), bool)
        if prefix == DURATION:
            with np.errstate(invalid="ignore", over="ignore"):
                scaled = np.rint(values * NS_PER_S)
                is_exact = (np.abs(scaled) < _MAX_EXACT) & (scaled / NS_PER_S == values)
            whole = _array("q", scaled[is_exact].astype(np.int64))
            if len(whole):
                series = Series(prefix, label, Kind.NANOSECONDS)
                yield Column(series, _array("q", times[is_exact]), whole)
        if not is_exact.all():
            series = Series(prefix, label, Kind.FLOAT)
            yield Column(series, _array("q", times[~is_exact]), _array("d", values[~is_exact]))


def _array(typecode: str, values: npt.NDArray[Any]) -> array[Any]:
    made = array(typecode)
    made.frombytes(values.tobytes())
    return made


def _write(file: Written, pieces: Any) -> None:
    """Write text at the end of a file, which begins with a header."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if file.has_header else os.O_TRUNC)
    fd = syscalls.open_file(file.path, flags, _MODE)
    try:
        for piece in pieces if file.has_header else (CSV_HEADER, *pieces):
            left = memoryview(piece)
            while left:
                left = left[syscalls.write(fd, left) :]
    finally:
        syscalls.close(fd)
    file.has_header = True
