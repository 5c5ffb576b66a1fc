"""What the files of a recording say: rows, accounts, and what is still in the journal.

The journal is read first, so that whatever is published meanwhile is seen in one
of the two places, or in both, and never in none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aqltelemetry import filenames, system
from aqltelemetry.errors import SegmentError
from aqltelemetry.filenames import FileName
from aqltelemetry.journal.files import read_file
from aqltelemetry.journal.label_table import TableLabels, read_table
from aqltelemetry.journal.orphans import find_set_aside, find_writers
from aqltelemetry.journal.reader import Context, read_segment
from aqltelemetry.journal.writer import SEGMENT_SUFFIX, lock
from aqltelemetry.observation import ACCOUNT, CSV_HEADER, Dropped, SegmentAccount
from aqltelemetry.sinks import account as labels


@dataclass(frozen=True, slots=True)
class DataFile:
    """A published file: what its name says, and its rows; None where it is damaged."""

    name: FileName
    rows: int | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What an account file says of the segments `first` to `last` of its writer."""

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


@dataclass(slots=True)
class Evidence:
    """All that is known of one writer.

    `journal` holds what its segments there tell, by number; None for one that can't
    be read, or that was never recorded to.
    """

    writer: str
    pid: int = 0
    is_alive: bool = False
    files: list[DataFile] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    journal: dict[int, SegmentAccount | None] = field(default_factory=dict)
    set_aside: set[int] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)


def gather(directory: Path, roots: Iterable[Path]) -> Mapping[str, Evidence]:
    """Return the evidence by writer; raises OSError where the directory can't be read."""
    found = look_into(roots)
    for entry in sorted(os.listdir(directory)):
        name = filenames.parse(entry)
        if name is None:
            continue
        with suppress(FileNotFoundError):  # a reader was faster
            data = (directory / entry).read_bytes()
            evidence = found.setdefault(name.writer, Evidence(name.writer))
            evidence.pid = name.pid
            _take(evidence, name, data)
    return found


def _take(evidence: Evidence, name: FileName, data: bytes) -> None:
    rows = _rows(data, name.pid)
    if name.prefix != ACCOUNT:
        evidence.files.append(DataFile(name, rows))
    if rows is None:
        evidence.damaged.append(str(name))
    elif name.prefix == ACCOUNT:
        try:
            evidence.claims.append(read_claim(name, data))
        except (ValueError, KeyError):
            evidence.damaged.append(str(name))


def _rows(data: bytes, pid: int) -> int | None:
    """Count the rows; None where one of them is none."""
    rows = data.count(b"\n") - 1
    whole = data.startswith(CSV_HEADER) and data.count(b",%d\n" % pid) == rows
    return rows if whole and data.endswith(b"\n") else None


def read_claim(name: FileName, data: bytes) -> Claim:
    """Read an account; raises ValueError or KeyError where it is none."""
    numbers: dict[str, int] = {}
    times: dict[str, int] = {}
    for line in data.decode().splitlines()[1:]:
        at_ns, value, label, _ = line.split(",")
        numbers[label], times[label] = int(value), int(at_ns)
    torn = numbers.pop(labels.TORN, 0)
    return Claim(
        first=name.first,
        last=name.last,
        accepted=numbers[labels.ACCEPTED],
        before=numbers.get(labels.BEFORE),
        rows=_with_prefix(numbers, labels.ROWS),
        files=_with_prefix(numbers, labels.FILES, besides=labels.REMOVED),
        torn=torn,
        dropped=[
            Dropped(reason, total, times[labels.DROPPED + reason])
            for reason, total in _with_prefix(numbers, labels.DROPPED).items()
        ],
        end=numbers.get(labels.END),
        child=numbers.get(labels.CHILD),
        removed=numbers.get(labels.REMOVED, 0),
        damaged=numbers.get(labels.DAMAGED, 0),
    )


def _with_prefix(
    numbers: Mapping[str, int], prefix: str, besides: str | None = None
) -> Mapping[str, int]:
    return {
        label.removeprefix(prefix): value
        for label, value in numbers.items()
        if label.startswith(prefix) and label != besides
    }


def look_into(roots: Iterable[Path]) -> dict[str, Evidence]:
    """Return what is in the journal, by writer."""
    found: dict[str, Evidence] = {}
    for root in roots:
        _look_into(root, found)
    return found


def _look_into(root: Path, found: dict[str, Evidence]) -> None:
    for path in find_writers(root):
        evidence = found.setdefault(path.name, Evidence(path.name))
        lock_fd = lock(path)
        if lock_fd is None:
            evidence.is_alive = path.exists()
        else:
            os.close(lock_fd)
        with suppress(FileNotFoundError):  # it was recovered meanwhile
            labels = read_table(path, _no_rest)
            for name in system.list_directory(path):
                if name.endswith(SEGMENT_SUFFIX):
                    _read(evidence, path / name, labels)
    for writer, number in find_set_aside(root):
        found.setdefault(writer, Evidence(writer)).set_aside.add(number)


def _read(evidence: Evidence, path: Path, labels: TableLabels) -> None:
    try:
        reading = read_segment(
            read_file(path), recovered=True, context=Context(labels=labels), rest=_no_rest
        )
    except FileNotFoundError:
        return
    except (OSError, SegmentError, ValueError):
        evidence.damaged.append(path.name)
        return
    evidence.journal[int(path.stem)] = reading.batch.account
    evidence.pid = reading.batch.pid


def _no_rest() -> None:
    pass
