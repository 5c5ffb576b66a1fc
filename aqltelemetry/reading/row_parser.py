"""Parses groups of files into rows: with the compiled parser, or else with pyarrow or pandas.

The compiled parser reads what the sink of this package writes, without the interpreter lock. Any
other text, such as a file of the older format, is read by `parsers`; the result is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.reading import parsers
from aqltelemetry.reading.file_groups import Group, Part
from aqltelemetry.reading.rows import Process, Rows, codes_type
from aqltelemetry.sinks import file_names
from aqltelemetry.system.later import pd

_MIN_ROW_BYTES = 7
# A row with a time, a number, and the shortest label and PID.
_SHORT_ROW_BYTES = 28
# With less, columns of their own take less memory than what is left of larger ones.
_MANY_ROWS = 1 << 17
_COLUMN_ROWS = 1 << 22
# The sink writes files of one process each.
_PIDS_OF_FILE = 4
_LeaveOut = Callable[[str, str], None]


class RowParser:
    """Parses groups of files, one after the other; each thread needs its own."""

    def __init__(self, leave_out: _LeaveOut) -> None:
        self._leave_out = leave_out
        self._table = None if parsers.compiled is None else parsers.compiled.LabelTable()
        self._labels: list[str] = []
        self._arrays: Sequence[npt.NDArray[Any]] = ()
        self._columns: Sequence[npt.NDArray[Any]] = ()
        self._used = 0

    def parse_files(self, directory: str, names: Sequence[str]) -> tuple[Sequence[Rows], int]:
        """Read and parse whole files by the compiled parser, which reads them itself.

        Returns their rows, and how many of the files these are: all before the first one that is
        not as the sink writes it. `parse` can read the others.
        """
        if self._table is None:
            return [], 0
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            paths = [os.fsencode(name) for name in names]
            columns = self._free(parsers.compiled.total_bytes(directory_fd, paths))
            pids, pid_rows = np.empty((2, _PIDS_OF_FILE * len(names)), np.int64)
            ends, pid_ends = np.empty((2, len(names)), np.int64)
            number = parsers.compiled.parse_files(
                *(directory_fd, paths, CSV_HEADER, self._table),
                *(*columns, pids, pid_rows, ends, pid_ends),
            )
        finally:
            os.close(directory_fd)
        if not number or not self._read_labels():
            return [], 0
        rows = int(ends[number - 1])
        timepoints, measurements, label_codes = (column[:rows] for column in columns)
        self._used += rows
        found = _processes(names[:number], pids, pid_ends)
        processes = [*dict.fromkeys(found)]
        code = {process: at for at, process in enumerate(processes)}
        codes = np.array([code[process] for process in found], codes_type(len(processes)))
        process_codes = np.repeat(codes, np.diff(pid_rows[: len(found)], append=rows))
        labels = self._labels[:]
        return [
            Rows(timepoints, measurements, label_codes, labels, process_codes, processes)
        ], number

    def _free(self, text_bytes: int) -> Sequence[npt.NDArray[Any]]:
        """Return columns for the usual number of rows of a text, which nobody else uses."""
        rows = text_bytes // _SHORT_ROW_BYTES + 1
        if not self._columns or len(self._columns[0]) < self._used + rows:
            kinds = (np.int64, np.float64, np.int32)
            # Many at once: memory that is not written to is none.
            size = rows if rows < _MANY_ROWS else max(rows, _COLUMN_ROWS)
            self._columns, self._used = [np.empty(size, kind) for kind in kinds], 0
        return [column[self._used :] for column in self._columns]

    def parse(self, group: Group) -> Iterable[Rows]:
        """Return the rows of a group; files that can't be parsed are left out."""
        if not group.end:
            return []
        if self._table is not None and not group.spaced:
            rows = self._parse_quickly(group)
            if rows is not None:
                return [rows]
        return self._parse(group, group.parts)

    def _parse_quickly(self, group: Group) -> Rows | None:
        """Return the rows of a group by the compiled parser; None if it can't read them."""
        timepoints, measurements, label_codes, pids, pid_rows = self._room(group.end)
        processes: dict[Process, int] = {}
        codes: list[int] = []
        counts: list[int] = []
        end = 0
        for name, start, stop in group.parts:
            found = parsers.compiled.parse_rows(
                *(group.rows, start, stop, self._table),
                *(timepoints, measurements, label_codes, pids, pid_rows, end),
            )
            if found is None:
                return None
            rows, runs = found
            writer = file_names.writer(name)
            found_processes = [Process(pid, writer) for pid in pids[:runs].tolist()]
            codes += [processes.setdefault(each, len(processes)) for each in found_processes]
            counts += np.diff(pid_rows[:runs], append=rows).tolist()
            end += rows
        if not self._read_labels():
            return None
        return Rows(
            timepoints[:end].copy(),
            measurements[:end].copy(),
            label_codes[:end].astype(codes_type(len(self._labels))),
            self._labels,
            np.repeat(np.array(codes, codes_type(len(processes))), counts),
            list(processes),
        )

    def _room(self, text_bytes: int) -> Sequence[npt.NDArray[Any]]:
        """Return arrays for as many rows as a text may have; they are used again."""
        rows = text_bytes // _MIN_ROW_BYTES + 1
        if not self._arrays or len(self._arrays[0]) < rows:
            kinds = (np.int64, np.float64, np.int32, np.int64, np.int64)
            self._arrays = [np.empty(rows, kind) for kind in kinds]
        return self._arrays

    def _read_labels(self) -> bool:
        """Read the labels that are new; returns whether all are UTF-8."""
        for field in self._table.fields(len(self._labels)) if self._table is not None else ():
            is_quoted = field.startswith(b'"')
            try:
                self._labels.append(
                    (field[1:-1].replace(b'""', b'"') if is_quoted else field).decode()
                )
            except UnicodeDecodeError:
                self._table = None  # which would know this label the next time
                return False
        return True

    def _parse(self, group: Group, parts: Sequence[Part]) -> Iterator[Rows]:
        """Parse files at once; if that fails, one by one, without those that can't be parsed."""
        start, end = parts[0].start, parts[-1].end
        if start == end:
            return
        lines = _lines(group.rows, parts)
        try:
            text = memoryview(group.rows)[start:end]
            columns = parsers.parse(text, lines=int(lines.sum()), spaced=group.spaced)
            writer_codes, writers = _writers(parts, lines, len(columns.pids))
        except ValueError as exc:  # a row has other fields than it should
            if len(parts) == 1:
                self._leave_out(parts[0].name, str(exc))
                return
            for part in parts:
                yield from self._parse(group, [part])
        else:
            yield _rows(columns, writer_codes, writers)


def _processes(
    names: Sequence[str], pids: npt.NDArray[np.int64], pid_ends: npt.NDArray[np.int64]
) -> list[Process]:
    """Return the process of each PID of some files, of which `pid_ends` are the ends."""
    found: list[Process] = []
    for name, end in zip(names, pid_ends[: len(names)].tolist(), strict=True):
        writer = file_names.writer(name)
        found += [Process(pid, writer) for pid in pids[len(found) : end].tolist()]
    return found


def _lines(rows: bytearray, parts: Sequence[Part]) -> npt.NDArray[np.int64]:
    first = parts[0].start
    is_end = np.frombuffer(rows, np.uint8, parts[-1].end - first, first) == ord("\n")
    return np.array(
        [np.count_nonzero(is_end[part.start - first : part.end - first]) for part in parts]
    )


def _writers(
    parts: Sequence[Part], lines: npt.NDArray[np.int64], rows: int
) -> tuple[npt.NDArray[Any], Sequence[str]]:
    """Return each row's writer; raises ValueError if it is unknown where a file's rows end."""
    if lines.sum() != rows:
        if len(parts) > 1:
            msg = "a row is not a line"
            raise ValueError(msg)
        lines = np.array([rows])
    names = [file_names.writer(part.name) for part in parts]
    writers = sorted(set(names))
    number = {writer: code for code, writer in enumerate(writers)}
    codes = np.array([number[name] for name in names], dtype=np.min_scalar_type(len(writers)))
    return np.repeat(codes, lines), writers


def _rows(columns: parsers.Columns, writer_codes: npt.NDArray[Any], writers: Sequence[str]) -> Rows:
    pid_codes, pids = pd.factorize(columns.pids)
    codes, pairs = pd.factorize(pid_codes * len(writers) + writer_codes)
    found = (divmod(pair, len(writers)) for pair in pairs.tolist())
    return Rows(
        columns.timepoints_ns.astype(np.int64, copy=False),
        columns.measurements,
        columns.label_codes,
        columns.labels,
        codes,
        [Process(int(pids[pid]), writers[writer]) for pid, writer in found],
    )
