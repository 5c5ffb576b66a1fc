"""Accounts: files that say how many observations went into which published files.

An account is a CSV file with the prefix `account`, published after the files that it
describes and named after the same journal segments. `aqltelemetry verify` compares the rows
of the files with it. docs/formats.md describes the labels. This module writes and reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aqltelemetry.observation import COLUMNS, Dropped, SegmentAccount
from aqltelemetry.sinks.csv_rows import Block
from aqltelemetry.sinks.file_names import FileName

ACCEPTED = "accepted"
"""Label: observations that were accepted into the segments in the file's name."""
BEFORE = "accepted before"
"""Label: observations that were accepted into earlier segments of the same writer."""
ROWS = "rows "
"""Label, followed by a file prefix: the number of rows with that prefix."""
FILES = "files "
"""Label, followed by a file prefix: the number of files that these rows were written into."""
TORN = "dropped torn"
"""Label: observations in these segments whose records are incomplete."""
DROPPED = "dropped "
"""Label, followed by a reason: the running total, at the time of the last drop."""
END = "end"
"""Label: 1 if the recording was stopped after these segments, 0 if it was killed."""
DAMAGED = "damaged segments"
"""Label: segments that may have contained more than could be read."""
CHILD = "child"
"""Label: identifies the forked child whose recording this is."""
REMOVED = "files removed"
"""Label: the number of published files that retention has removed in this process."""
_NS_PER_US = 1_000


class AccountRow(NamedTuple):
    """A row of an account; `at_ns` is nanoseconds since the epoch."""

    at_ns: int
    value: int
    label: str


def format_rows(rows: Iterable[AccountRow], pid: int) -> bytes:
    """Return rows of an account as CSV text, without a header."""
    return "".join(f"{row.at_ns},{row.value},{row.label},{pid}\n" for row in rows).encode()


def read_rows(data: bytes, *, skip_damaged: bool = False) -> Iterator[AccountRow]:
    """Yield the rows of an account file, which begins with a header.

    Raises ValueError at a line that is not a row of an account, or skips it if `skip_damaged`.
    """
    for line in data.decode(errors="replace" if skip_damaged else "strict").splitlines()[1:]:
        try:
            yield _row(line)
        except ValueError:
            if not skip_damaged:
                raise


def _row(line: str) -> AccountRow:
    fields = line.split(",")
    if len(fields) != len(COLUMNS):
        raise ValueError(line)
    return AccountRow(int(fields[0]), int(fields[1]), fields[2])


@dataclass(frozen=True, slots=True)
class Account:
    """What an account file says about the segments `first` to `last` of its writer.

    The fields are the values of the labels above; None for a label that is absent.
    """

    first: int
    last: int
    accepted: int
    before: int | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    torn: int = 0
    dropped: Sequence[Dropped] = ()
    end: int | None = None
    child: int | None = None
    removed: int = 0
    damaged: int = 0


def read_account(name: FileName, data: bytes) -> Account:
    """Read an account file; raises ValueError or KeyError if it is damaged."""
    return account_of(name, read_rows(data))


def account_of(name: FileName, found: Iterable[AccountRow]) -> Account:
    """Return the account with these rows; raises KeyError if one is missing."""
    rows = {row.label: row for row in found}
    numbers = {label: row.value for label, row in rows.items()}
    torn, removed = numbers.pop(TORN, 0), numbers.pop(REMOVED, 0)
    return Account(
        first=name.first,
        last=name.last,
        accepted=numbers[ACCEPTED],
        before=numbers.get(BEFORE),
        rows=_with_prefix(numbers, ROWS),
        files=_with_prefix(numbers, FILES),
        torn=torn,
        dropped=[
            Dropped(reason, total, rows[DROPPED + reason].at_ns)
            for reason, total in _with_prefix(numbers, DROPPED).items()
        ],
        end=numbers.get(END),
        child=numbers.get(CHILD),
        removed=removed,
        damaged=numbers.get(DAMAGED, 0),
    )


def read_accepted(data: bytes) -> int:
    """Return how many observations an account says were accepted; 0 if it does not say."""
    return sum(row.value for row in read_rows(data, skip_damaged=True) if row.label == ACCEPTED)


def _with_prefix(numbers: Mapping[str, int], prefix: str) -> Mapping[str, int]:
    return {
        label.removeprefix(prefix): value
        for label, value in numbers.items()
        if label.startswith(prefix)
    }


class AccountBuilder:
    """Adds up the segments that are written into the same files."""

    def __init__(self) -> None:
        self._accepted = 0
        self._before: int | None = None
        self._rows: Counter[str] = Counter()
        self._dropped: dict[str, Dropped] = {}
        self._end: int | None = None
        self._child: int | None = None
        self._span_ns: list[int] = []
        self._segments = 0
        self._damaged = 0

    def add(self, segment: SegmentAccount | None, texts: Mapping[str, Sequence[Block]]) -> None:
        """Add a segment and its rows by prefix; None stands for a segment without records."""
        if segment is None:
            return
        if not self._segments:
            self._before = segment.before
        self._segments += 1
        self._accepted += segment.accepted
        self._damaged += segment.is_damaged
        for prefix, blocks in texts.items():
            self._rows[prefix] += sum(block.rows for block in blocks)
            times_ns = [*self._span_ns, *(block.from_ns for block in blocks)]
            times_ns += (block.to_ns for block in blocks)
            self._span_ns = [min(times_ns), max(times_ns)]
        self._dropped |= {dropped.reason: dropped for dropped in segment.dropped}
        if segment.is_last:
            self._end = int(segment.in_order)
        self._child = segment.child
        if not self._span_ns:
            self._span_ns = [segment.at_ns]

    def block(self, pid: int, files: Counter[str], removed: int) -> Block | None:
        """Return the account as CSV text, or None if no segment was added.

        `files` counts the written files by prefix; `removed` are the files that retention
        has removed so far.
        """
        if not self._segments:
            return None
        rows = [*self._totals(files, removed)]
        times_ns = [row.at_ns for row in rows] + self._span_ns
        # Retention goes by the end in the name: the account outlives the files it describes.
        return Block(format_rows(rows, pid), len(rows), min(times_ns), max(times_ns) + _NS_PER_US)

    def _totals(self, files: Counter[str], removed: int) -> Iterator[AccountRow]:
        numbers: dict[str, int | None] = {ACCEPTED: self._accepted, BEFORE: self._before}
        numbers |= {ROWS + prefix: rows for prefix, rows in self._rows.items()}
        numbers |= {FILES + prefix: count for prefix, count in files.items()}
        numbers[TORN] = self._accepted - self._rows.total() or None
        numbers |= {END: self._end, CHILD: self._child}
        numbers |= {DAMAGED: self._damaged or None, REMOVED: removed or None}
        at_ns = max(self._span_ns)
        for label, value in numbers.items():
            if value is not None:
                yield AccountRow(at_ns, value, label)
        for reason, total, last_ns in self._dropped.values():
            yield AccountRow(last_ns, total, DROPPED + reason)


def recordings(children: Mapping[str, int | None]) -> dict[str, str]:
    """Map each writer to the one that stands for its recording.

    `children` are the forked children (see `CHILD`) by writer, None for a writer of another
    process. The segments of a forked child have a writer each, and the accounts of all of them
    report the same running totals: these count once, for the first of its writers.
    """
    first: dict[int, str] = {}
    return {
        writer: writer if child is None else first.setdefault(child, writer)
        for writer, child in sorted(children.items())
    }
