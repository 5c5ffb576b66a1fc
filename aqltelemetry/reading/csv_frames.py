"""Reads CSV files into one pandas DataFrame, many files at a time."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from aqltelemetry.observation import COLUMNS, LABEL, MEASUREMENT, PID, TIMEPOINT
from aqltelemetry.reading.file_groups import Group, GroupReader, Part
from aqltelemetry.reading.parsers import Columns, parse
from aqltelemetry.sinks import file_names

WRITER = "Writer"
"""Frame column: the `writer` in the file's name; it distinguishes processes with equal PIDs."""
_NS_PER_US = 1000
_Mask: TypeAlias = npt.NDArray[np.bool_]
_LeaveOut: TypeAlias = Callable[[str, str], None]


class ForeignFileWarning(UserWarning):
    """Warns that a CSV file was not read: it is damaged, unreadable, or not a telemetry file."""


def warn(path: str, reason: str) -> None:
    """Warn that a file was not read."""
    warnings.warn(f"{path}: not read: {reason}", ForeignFileWarning, 3)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Selects observations with `since_ns <= t < until_ns` and these labels; None for no limit."""

    since_ns: int | None = None
    until_ns: int | None = None
    labels: Collection[str] | None = None

    def files(self, names: Iterable[str]) -> list[str]:
        """Return the files that may contain such observations, by their names."""
        if self.since_ns is None and self.until_ns is None:
            return list(names)
        since = "" if self.since_ns is None else file_names.stamp(self.since_ns)
        # Times in names are rounded down to a microsecond; round `until_ns` up.
        until = "~" if self.until_ns is None else file_names.stamp(self.until_ns + _NS_PER_US - 1)
        return [name for name in names if file_names.may_overlap(name, since, until)]

    def among(self, columns: Columns) -> _Mask | None:
        """Return a mask of the selected rows, or None if all are."""
        tests: list[Any] = []
        if self.since_ns is not None:
            tests.append(columns.timepoints_ns >= self.since_ns)
        if self.until_ns is not None:
            tests.append(columns.timepoints_ns < self.until_ns)
        if self.labels is not None:
            known = np.array([label in self.labels for label in columns.labels], dtype=bool)
            tests.append(known[columns.label_codes])
        if not tests:
            return None
        mask: _Mask = np.logical_and.reduce(tests)
        return None if mask.all() else mask


EVERYTHING = Wanted()


class Rows(NamedTuple):
    """Rows as columns, with the writer of each as an index into `writers`."""

    columns: Columns
    writer_codes: npt.NDArray[Any]
    writers: Sequence[str]


def read_frame(
    directory: str,
    names: Iterable[str],
    wanted: Wanted = EVERYTHING,
    leave_out: _LeaveOut | None = None,
) -> pd.DataFrame:
    """Return the rows of CSV files as a DataFrame with the columns of `COLUMNS` and `WRITER`.

    Timepoint is datetime64[ns], Label and Writer are categorical. Files named `*.gz` and
    `*.zst` are decompressed. Header and fields may be quoted; files of the older format have
    a space after each comma.

    Files that are removed meanwhile are skipped. For a file that is damaged, unreadable or
    not a telemetry file, `leave_out` is called with its name and the reason; if it is None, a
    ForeignFileWarning is issued. If labels are selected, damage in other rows may go
    unnoticed.
    """

    def warn_of(name: str, reason: str) -> None:
        warn(os.path.join(directory, name), reason)

    return to_frame([*read_rows(directory, names, wanted, leave_out or warn_of)])


def read_rows(
    directory: str, names: Iterable[str], wanted: Wanted, leave_out: _LeaveOut
) -> Iterator[Rows]:
    """Yield the rows of CSV files, some files at a time; see `read_frame`."""
    for group in GroupReader(wanted.labels, leave_out).groups(directory, names):
        for rows in _rows(group, group.parts, leave_out):
            yield chosen(rows, wanted)


def concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate results of `read_frame`; Label and Writer stay categorical."""
    joined = pd.concat([frame.drop(columns=[LABEL, WRITER]) for frame in frames], ignore_index=True)
    for at, name in ((COLUMNS.index(LABEL), LABEL), (len(COLUMNS), WRITER)):
        categories: Any = pd.api.types.union_categoricals(
            [frame[name] for frame in frames], sort_categories=True
        )
        joined.insert(at, name, categories)
    return joined


def _rows(group: Group, parts: Sequence[Part], leave_out: _LeaveOut) -> Iterator[Rows]:
    """Parse files at once; if that fails, one by one, without those that can't be parsed."""
    start, end = parts[0].start, parts[-1].end
    if start == end:
        return
    lines = _lines(group.rows, parts)
    try:
        columns = parse(
            memoryview(group.rows)[start:end], lines=int(lines.sum()), spaced=group.spaced
        )
        yield Rows(columns, *_writers(parts, lines, len(columns.pids)))
    except ValueError as exc:  # a row has other fields than it should
        if len(parts) == 1:
            leave_out(parts[0].name, str(exc))
            return
        for part in parts:
            yield from _rows(group, [part], leave_out)


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


def chosen(rows: Rows, wanted: Wanted) -> Rows:
    """Return the rows that are wanted."""
    mask = wanted.among(rows.columns)
    if mask is None:
        return rows
    columns = rows.columns
    chosen = columns._replace(
        timepoints_ns=columns.timepoints_ns[mask],
        measurements=columns.measurements[mask],
        label_codes=columns.label_codes[mask],
        pids=columns.pids[mask],
    )
    return Rows(chosen, rows.writer_codes[mask], rows.writers)


def to_frame(found: Sequence[Rows]) -> pd.DataFrame:
    """Return rows as a DataFrame, as `read_frame` does."""
    columns = [rows.columns for rows in found]
    times_ns = _joined([each.timepoints_ns for each in columns], np.int64)
    return pd.DataFrame(
        {
            TIMEPOINT: times_ns.view("datetime64[ns]"),
            MEASUREMENT: _joined([each.measurements for each in columns], np.float64),
            LABEL: _categorical([(each.label_codes, each.labels) for each in columns]),
            PID: _joined([each.pids for each in columns], np.int64),
            WRITER: _categorical([(rows.writer_codes, rows.writers) for rows in found]),
        },
        copy=False,
    )


def _joined(arrays: Sequence[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=kind)


def _categorical(parts: Sequence[tuple[npt.NDArray[Any], Sequence[str]]]) -> Any:
    """Return a categorical of the texts that occur, sorted, from their indexes in each part."""
    occurring = [np.flatnonzero(np.bincount(codes, minlength=1)) for codes, _ in parts]
    texts = sorted(
        {
            names[code]
            for (_, names), known in zip(parts, occurring, strict=True)
            for code in known.tolist()
        }
    )
    number = {text: code for code, text in enumerate(texts)}
    kind = np.min_scalar_type(-max(len(texts), 1))
    recoded = [
        np.array([number.get(name, -1) for name in names], dtype=kind)[codes]
        for codes, names in parts
    ]
    return pd.Categorical.from_codes(_joined(recoded, kind), pd.Index(texts, dtype="str"))
