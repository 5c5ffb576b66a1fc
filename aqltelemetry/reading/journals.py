"""Reads the observations that are in a journal, of running and of dead processes.

It only reads: it maps nothing, writes nothing, and waits for nobody. The lock of a writer is
tried until it is found free once, which shows that the writer is dead.

Each record is checked by its CRC-32, so that one that is being stored is left out, and read the
next time. A segment is read again until nothing can be added to it: reading one takes half a
millisecond, less than keeping track of which of its records were read.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.dead_writers import find_writers
from aqltelemetry.journal.dir_lock import lock
from aqltelemetry.journal.files import read_file, segment_name, segment_number
from aqltelemetry.journal.in_flight import FILE_BYTES, FILE_NAME, InFlight, read_in_flight
from aqltelemetry.journal.labels import NO_LABELS, TableLabels, read_table
from aqltelemetry.journal.reader import Reading
from aqltelemetry.journal.salvage import UNKNOWN_PID, as_last, read_recovered
from aqltelemetry.observation import ACCOUNT, Batch, Column, Kind, SegmentAccount, SegmentId
from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.sinks.account import ACCEPTED, CHILD, DROPPED, END, TORN
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

_BLANK_BYTES = 1024 * fmt.RECORD_BYTES
_BLANK = bytes(_BLANK_BYTES)
_HEAD_BYTES = fmt.ANCHORS_AT + fmt.RECORD_BYTES
_OTHERS_MAY_WRITE = 0o022


class Place(NamedTuple):
    """A directory that may contain journals, and the users whose journals are read there."""

    root: str
    uids: frozenset[int]


class UnpublishedSegment(NamedTuple):
    """What a segment in a journal contained when it was read.

    Attributes:
        id: Its writer and number.
        pid: The process that recorded into it.
        rows: Its observations by file prefix, and, as `account`, its account as it would be
            published now.
        is_final: Whether nothing can be added to it.
        is_recorded_to: Whether anything was recorded into it.
        span_ns: The first and the last time in `rows`, in nanoseconds since the epoch.
        is_end: Whether it is the last one of its recording: True if that was stopped in order,
            False if it was killed, None if it is not the last one, as far as is known.
    """

    id: SegmentId
    pid: int
    rows: Mapping[str, Rows]
    is_final: bool = False
    is_recorded_to: bool = False
    span_ns: tuple[int, int] | None = None
    is_end: bool | None = None


class Journals:
    """Reads the segments below several places, each time those that may have changed.

    `problems` are the journals, writers and segments that could not be read the last time,
    and why; `hidden` are those of them of which it is unknown whether they exist; `running` are
    the writers whose processes live.
    """

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = tuple(places)
        self._writers: dict[Path, _WriterReader] = {}
        self._readable: list[Path] = []
        self.problems: dict[str, str] = {}
        self.hidden: set[str] = set()
        self.running: set[str] = set()

    def read(self) -> Mapping[SegmentId, UnpublishedSegment]:
        """Return the segments that are there now, by writer and number; never raises."""
        self.problems = {}
        found: dict[SegmentId, UnpublishedSegment] = {}
        known, self._writers = self._writers, {}
        for path, uid in self._paths():
            reader = self._writers[path] = known.get(path) or _WriterReader(path, uid)
            try:
                found.update((segment.id, segment) for segment in reader.read())
            except (FileNotFoundError, NotADirectoryError):  # another process recovered it
                del self._writers[path]
            except OSError as exc:
                self.problems[str(path)] = f"it can't be read: {exc.strerror}"
            self.problems.update(reader.problems)
        self.running = {path.name for path, each in self._writers.items() if not each.is_dead}
        return found

    def requests(self) -> Mapping[str, InFlight]:
        """Return what running writers handle now, by their names; without what can't be read."""
        found = {}
        for path, each in self._writers.items():
            if not each.is_dead:
                with suppress(OSError, SegmentError):
                    found[path.name] = each.requests()
        return found

    def has(self, segment: SegmentId) -> bool:
        """Return whether the file of a segment exists now, in a journal that can be read."""
        name = segment_name(segment.sequence)
        return any((root / segment.writer / name).exists() for root in self._readable)

    def _paths(self) -> Iterator[tuple[Path, int]]:
        """Yield the directories of the writers, and the user whose files are in each."""
        self._readable, self.hidden = [], set()
        for root, uids in ((Path(place.root), place.uids) for place in self._places):
            try:
                paths = self._find_writers(root, uids)
            except FileNotFoundError:
                paths = ()  # it may be made in a moment
            except OSError as exc:
                self.problems[str(root)] = f"the journal can't be read: {exc.strerror or exc}"
                continue
            self._readable.append(root)
            yield from paths

    def _find_writers(self, root: Path, uids: Container[int]) -> Sequence[tuple[Path, int]]:
        try:
            state = syscalls.look_at(root)
        except PermissionError:
            self.hidden.add(str(root))
            raise
        if state.st_uid not in uids or state.st_mode & _OTHERS_MAY_WRITE:
            raise OSError("it must belong to the user who records, and no other may write to it")
        return [(path, state.st_uid) for path in find_writers(root)]


class _WriterReader:
    """Reads the segments of one writer, and remembers those that are final."""

    def __init__(self, path: Path, uid: int) -> None:
        self.is_dead = False
        self.problems: dict[str, str] = {}
        self._path = path
        self._uid = uid
        self._pid = UNKNOWN_PID
        self._labels: TableLabels | None = None
        self._segments: dict[int, UnpublishedSegment] = {}

    def read(self) -> Sequence[UnpublishedSegment]:
        """Return the segments; raises OSError if the directory can't be read."""
        self.problems = {}
        was_dead = self.is_dead
        self.is_dead = was_dead or self._is_unlocked()
        names = {
            number: name
            for name in syscalls.list_directory(self._path)
            if (number := segment_number(name)) is not None
        }
        known, self._segments = self._segments, {}
        if self.is_dead and not was_dead:  # the account of the last segment says so
            known.pop(max((n for n, each in known.items() if each.is_recorded_to), default=0), None)
        self._pid = self._pid or self._find_pid(names.values())
        for number, name in sorted(names.items(), reverse=True):
            before = known.get(number)
            if before is not None and before.is_final:
                self._segments[number] = before
                continue
            with suppress(FileNotFoundError):  # it was published meanwhile
                self._segments[number] = self._read(number, name, before)
        return tuple(self._segments[number] for number in sorted(self._segments))

    def requests(self) -> InFlight:
        """Return the requests in flight; raises OSError or SegmentError if there are none."""
        return read_in_flight(read_file(self._path / FILE_NAME, FILE_BYTES, self._uid))

    def _find_pid(self, names: Iterable[str]) -> int:
        """Return the PID in the first intact header."""
        for name in names:
            with suppress(OSError, SegmentError):
                return fmt.unpack_header(
                    read_file(self._path / name, fmt.RECORDS_AT, self._uid)
                ).pid
        return UNKNOWN_PID

    def _is_unlocked(self) -> bool:
        lock_fd = lock(self._path)
        if lock_fd is None:  # locked, or gone
            return False
        syscalls.close(lock_fd)
        return True

    def _read(
        self, number: int, name: str, before: UnpublishedSegment | None
    ) -> UnpublishedSegment:
        path = self._path / name
        segment = SegmentId(self._path.name, number)
        try:
            head = read_file(path, _HEAD_BYTES, self._uid)
            if head.startswith(fmt.MAGIC) and not any(head[fmt.ANCHORS_AT :]):
                return UnpublishedSegment(segment, self._pid, {}, self.is_dead)
            data = read_file(path, uid=self._uid)
            at_ns = syscalls.look_at(path).st_mtime_ns
        except FileNotFoundError:
            raise
        except (OSError, SegmentError) as exc:
            self.problems[str(path)] = f"it can't be read: {exc}"
            # What was read before is not forgotten because of a lack of descriptors.
            return before or UnpublishedSegment(segment, self._pid, {})
        reading = self._reading(_used(data), segment, at_ns)
        self._pid = reading.batch.pid or self._pid
        if self.is_dead and not any(each.is_recorded_to for each in self._segments.values()):
            reading = as_last(reading)
        return _unpublished(reading, _slots(data), is_dead=self.is_dead)

    def _reading(self, data: bytes, segment: SegmentId, at_ns: int) -> Reading:
        def read() -> Reading:
            labels = self._labels or NO_LABELS
            return read_recovered(data, segment, pid=self._pid, at_ns=at_ns, labels=labels)

        reading = read()
        if reading.damaged:  # or of a label that is new in the table
            labels = read_table(self._path, uid=self._uid)
            if labels != (self._labels or NO_LABELS):
                self._labels = labels
                reading = read()
        return reading


def _used(data: bytes) -> bytes:
    """Return a segment without the part of it, at the end, that was never used."""
    end = len(data)
    while end - _BLANK_BYTES > fmt.RECORDS_AT and data.startswith(_BLANK, end - _BLANK_BYTES):
        end -= _BLANK_BYTES
    return data[:end]


def _slots(data: bytes) -> int:
    """Return how many slots a segment has; a sealed one has none that were never taken."""
    return (len(data) - fmt.RECORDS_AT) // fmt.RECORD_BYTES


def _unpublished(reading: Reading, slots: int, *, is_dead: bool) -> UnpublishedSegment:
    batch, account = reading.batch, reading.batch.account
    # The slots of a running process that are not intact are being stored.
    is_final = is_dead or reading.records == slots
    if account is not None and not is_dead:
        account = account._replace(accepted=reading.records)
    rows = dict(_rows_by_prefix(batch))
    if account is not None:
        rows[ACCOUNT] = _account_rows(batch, account)
    return UnpublishedSegment(
        batch.segment,
        batch.pid,
        rows,
        is_final,
        is_recorded_to=account is not None or not reading.is_whole,
        span_ns=_span_ns([each.timepoints_ns for each in rows.values()]),
        is_end=account.in_order if account is not None and account.is_last else None,
    )


def _span_ns(times_ns: Sequence[npt.NDArray[np.int64]]) -> tuple[int, int] | None:
    if not times_ns:
        return None
    return min(int(each.min()) for each in times_ns), max(int(each.max()) for each in times_ns)


def _rows_by_prefix(batch: Batch) -> Iterator[tuple[str, Rows]]:
    prefix_of = attrgetter("series.prefix")
    for prefix, group in groupby(sorted(batch.columns, key=prefix_of), prefix_of):
        columns = list(group)
        counts = [len(column.timepoints_ns) for column in columns]
        yield (
            str(prefix),
            _rows(
                batch,
                np.concatenate([np.asarray(each.timepoints_ns, np.int64) for each in columns]),
                np.concatenate([_measurements(each) for each in columns]),
                np.repeat(np.arange(len(columns), dtype=np.int32), counts),
                [column.series.label for column in columns],
            ),
        )


def _measurements(column: Column) -> npt.NDArray[np.float64]:
    values = np.asarray(column.values)
    return values / NS_PER_S if column.series.kind is Kind.NANOSECONDS else values


def _account_rows(batch: Batch, account: SegmentAccount) -> Rows:
    """Return the rows of the account that would be published for a segment."""
    latest = (int(np.max(column.timepoints_ns)) for column in batch.columns)
    at_ns = max(latest, default=account.at_ns)
    numbers: list[tuple[int, str, int | None]] = [
        (at_ns, ACCEPTED, account.accepted),
        (at_ns, TORN, account.accepted - batch.rows or None),
        (at_ns, END, int(account.in_order) if account.is_last else None),
        (at_ns, CHILD, account.child),
    ]
    numbers += [(each.last_ns, DROPPED + each.reason, each.total) for each in account.dropped]
    known = [(at, label, value) for at, label, value in numbers if value is not None]
    times_ns, labels, values = zip(*known, strict=True)
    return _rows(
        batch,
        np.array(times_ns, np.int64),
        np.array(values, np.float64),
        np.arange(len(labels), dtype=np.int32),
        labels,
    )


def _rows(
    batch: Batch,
    times_ns: npt.NDArray[np.int64],
    measurements: npt.NDArray[np.float64],
    label_codes: npt.NDArray[np.int32],
    labels: Sequence[str],
) -> Rows:
    process = Process(batch.pid, batch.segment.writer)
    return Rows.of_process(process, times_ns, measurements, label_codes, labels)
