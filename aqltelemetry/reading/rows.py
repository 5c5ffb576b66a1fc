"""Observations as numpy arrays: what a loaded recording is, before it is a DataFrame."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import LABEL, MEASUREMENT, PID, TIMEPOINT
from aqltelemetry.system.later import pd

WRITER = "Writer"
"""Frame column: the `writer` in the file's name; it distinguishes processes with equal PIDs."""
Codes: TypeAlias = npt.NDArray[np.integer[Any]]
_BLOCK_ROWS = 1 << 18


class Process(NamedTuple):
    """A recorded process: its PID and its writer.

    `writer` distinguishes processes with equal PIDs: 16 hexadecimal digits, or "" where a file's
    name does not contain it.
    """

    pid: int
    writer: str

    def named(self, writers: Mapping[str, str]) -> Process:
        """Return the process with its writer replaced, if the mapping contains it."""
        return self._replace(writer=writers.get(self.writer, self.writer))


_T = TypeVar("_T", str, Process)


@dataclass(frozen=True)
class Rows:
    """Observations as columns of equal length n, which must not be changed.

    Attributes:
        timepoints_ns: n nanoseconds since the epoch, int64.
        measurements: n values, float64; durations are in seconds.
        label_codes: n indexes into `labels`, of the smallest signed integer type.
        labels: The labels that occur, in alphabetical order.
        process_codes: n indexes into `processes`, of the smallest signed integer type.
        processes: The processes that occur, in ascending order.
        is_joined: Whether this is a result of `join`. Only then are labels and processes in
            order, and do all of them occur.
    """

    timepoints_ns: npt.NDArray[np.int64]
    measurements: npt.NDArray[np.float64]
    label_codes: Codes
    labels: Sequence[str]
    process_codes: Codes
    processes: Sequence[Process]
    is_joined: bool = False

    def __len__(self) -> int:
        return len(self.timepoints_ns)

    def __getitem__(self, chosen: Any) -> Rows:
        """Return some rows: those of a mask, or of an array of indexes.

        `labels` and `processes` stay, also those that no longer occur.
        """
        return replace(
            self,
            timepoints_ns=self.timepoints_ns[chosen],
            measurements=self.measurements[chosen],
            label_codes=self.label_codes[chosen],
            process_codes=self.process_codes[chosen],
            is_joined=False,
        )

    def of_label(self, label: str) -> Rows:
        """Return the rows of a label."""
        return self.of_labels({label})

    def pids(self) -> list[int]:
        """Return the PIDs that occur, in ascending order."""
        codes = np.flatnonzero(np.bincount(self.process_codes, minlength=1))
        return sorted({self.processes[code].pid for code in codes.tolist()}) if len(self) else []

    def of_pid(self, pid: int) -> Rows:
        """Return the rows of the processes with a PID."""
        is_wanted = np.array([process.pid == pid for process in self.processes], dtype=bool)
        return self[is_wanted[self.process_codes]]

    def of_labels(self, labels: Collection[str]) -> Rows:
        """Return the rows of some labels."""
        codes = [code for code, label in enumerate(self.labels) if label in labels]
        if len(codes) <= 1:
            return self[self.label_codes == (codes[0] if codes else -1)]
        is_wanted = np.zeros(len(self.labels), dtype=bool)
        is_wanted[codes] = True
        return self[is_wanted[self.label_codes]]

    @cached_property
    def span_ns(self) -> tuple[int, int] | None:
        """The first and the last time, in nanoseconds since the epoch; None without rows."""
        if not len(self):
            return None
        return int(self.timepoints_ns.min()), int(self.timepoints_ns.max())

    @cached_property
    def blocks(self) -> Sequence[Rows]:
        """The rows in order, in parts that are views of them; each part knows its `span_ns`."""
        if len(self) <= _BLOCK_ROWS:
            return [self]
        return [self[at : at + _BLOCK_ROWS] for at in range(0, len(self), _BLOCK_ROWS)]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as a DataFrame with the columns of a file, and `WRITER`.

        Timepoint is datetime64[ns], Label and Writer are categorical. Copy it, at least
        `copy(deep=False)`, before you give it away.
        """
        pids = np.array([process.pid for process in self.processes], np.int64)
        writers = sorted({process.writer for process in self.processes})
        number = {writer: code for code, writer in enumerate(writers)}
        writer_codes = np.array([number[process.writer] for process in self.processes])
        return pd.DataFrame(
            {
                TIMEPOINT: self.timepoints_ns.view("datetime64[ns]"),
                MEASUREMENT: self.measurements,
                LABEL: _categorical(self.label_codes, self.labels),
                PID: pids[self.process_codes],
                WRITER: _categorical(
                    writer_codes.astype(codes_type(len(writers)))[self.process_codes], writers
                ),
            },
            copy=False,
        )

    @staticmethod
    def of_process(
        process: Process,
        timepoints_ns: npt.NDArray[np.int64],
        measurements: npt.NDArray[np.float64],
        label_codes: npt.NDArray[np.integer[Any]],
        labels: Sequence[str],
    ) -> Rows:
        """Return the observations of one process; `labels` stay in the given order."""
        codes = np.zeros(len(timepoints_ns), np.int8)
        return Rows(timepoints_ns, measurements, label_codes, labels, codes, [process])


def with_shared_processes(parts: Sequence[Rows], writers: Mapping[str, str]) -> Sequence[Rows]:
    """Return parts with equal `processes`, of which some writers are replaced by others."""
    named = [[process.named(writers) for process in part.processes] for part in parts]
    every = sorted({process for processes in named for process in processes})
    number = {process: code for code, process in enumerate(every)}
    kind = codes_type(len(every))
    return [
        part
        if list(part.processes) == every
        else replace(
            part,
            process_codes=np.array([number[each] for each in processes], kind)[part.process_codes],
            processes=every,
            is_joined=False,
        )
        for part, processes in zip(parts, named, strict=True)
    ]


def join(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several parts, one after the other.

    Labels and processes of the parts may be in any order; those that do not occur are left out.
    """
    parts = [part for part in parts if len(part)]
    are_joined = [part.is_joined for part in parts]
    of_labels = [(part.label_codes, part.labels) for part in parts]
    of_processes = [(part.process_codes, part.processes) for part in parts]
    label_codes, labels = recoded(of_labels, are_joined)
    process_codes, processes = recoded(of_processes, are_joined)
    return Rows(
        _joined([part.timepoints_ns for part in parts], np.int64),
        _joined([part.measurements for part in parts], np.float64),
        label_codes,
        labels,
        process_codes,
        processes,
        is_joined=True,
    )


def recoded(
    parts: Sequence[tuple[Codes, Sequence[_T]]], are_joined: Sequence[bool]
) -> tuple[Codes, Sequence[_T]]:
    """Return codes into one sorted list of the values that occur.

    `are_joined` says for each part whether its values are such a list.
    """
    found: set[_T] = set()
    for (codes, values), is_joined in zip(parts, are_joined, strict=True):
        occurring = () if is_joined else np.flatnonzero(np.bincount(codes)).tolist()
        found.update(values if is_joined else [values[code] for code in occurring])
    every = sorted(found)
    number = {value: code for code, value in enumerate(every)}
    kind = codes_type(len(every))
    recoded_parts = [
        codes
        if list(values) == every
        else np.array([number.get(value, -1) for value in values], dtype=kind)[codes]
        for codes, values in parts
    ]
    return _joined(recoded_parts, kind), every


def codes_type(values: int) -> Any:
    """Return the smallest signed integer type for indexes of a number of values."""
    return np.min_scalar_type(-max(values, 1))


def _joined(arrays: Sequence[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    if len(arrays) == 1:
        return np.ascontiguousarray(arrays[0], dtype=kind)
    if not arrays:
        return np.empty(0, dtype=kind)
    return np.concatenate(arrays, dtype=kind)


def _categorical(codes: Codes, texts: Sequence[str]) -> Any:
    return pd.Categorical.from_codes(codes, pd.Index(list(texts), dtype="str"))
