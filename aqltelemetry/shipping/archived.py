"""Makes CSV files of the files that are in archives, so that they are shipped like any other.

The rows are those that were published, each file's under its name. Only their order within the
file may differ: they are sorted by label and time.
"""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import ArchiveError
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


class Unpacked(NamedTuple):
    """Paths of CSV files by the names of the files, and the files that can't be made, and why."""

    paths: Mapping[str, str]
    refused: Mapping[str, str]


@dataclass(slots=True)
class _Progress:
    """What was written of a file, to be compared with what the archive says of it."""

    member: Member
    path: str
    rows: int = 0
    checksum: int = 0
    has_header: bool = field(default=False)


class Unpacker:
    """Makes the files of one shipment at a time, in a directory of its own.

    The directory is emptied at first: a process that was killed may have left files there.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._made: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self.clear()

    def clear(self) -> None:
        """Remove all files, and the directory."""
        self._made.clear()
        self._refused.clear()
        shutil.rmtree(self._directory, ignore_errors=True)

    def unpack(self, wanted: Mapping[str, Collection[str]]) -> Unpacked:
        """Return the wanted files, and remove all others; those that were just made are kept.

        Args:
            wanted: The names of files by the path of the archive that they are in.

        Raises:
            FileNotFoundError: An archive was removed.
            OSError: A file can't be written.
            MissingExtraError: pyarrow is not installed.
        """
        every = {name for names in wanted.values() for name in names}
        for name in self._made.keys() - every:
            with suppress(FileNotFoundError):
                syscalls.unlink(self._made.pop(name))
        self._refused = {name: why for name, why in self._refused.items() if name in every}
        for path, names in wanted.items():
            new = {name for name in names if name not in self._made and name not in self._refused}
            if new:
                self._unpack(path, new)
        return Unpacked(dict(self._made), dict(self._refused))

    def _unpack(self, path: str, names: Collection[str]) -> None:
        syscalls.make_directories(self._directory, 0o750)
        try:
            for each in self._written(path, names):
                name = str(each.member.name)
                if (each.rows, each.checksum) == (each.member.rows, each.member.checksum):
                    self._made[name] = each.path
                else:
                    self._refused[name] = f"{path} does not contain its rows"
        except ArchiveError as exc:
            self._refused |= dict.fromkeys(names, str(exc))

    def _written(self, path: str, names: Collection[str]) -> Sequence[_Progress]:
        """Write files of an archive, and return what was written of each."""
        members = archives.read_members(path)
        files = {
            code: _Progress(member, os.path.join(self._directory, str(member.name)))
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


def _append(file: _Progress, rows: Rows, memory: Memory) -> None:
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


def _write(file: _Progress, pieces: Any) -> None:
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
