from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from aqltelemetry import time_block
from aqltelemetry.journal.counters import NO_SEGMENT, TORN, UNREADABLE
from aqltelemetry.journal.format import LABELS_AT, RECORDS_AT, SEGMENT_BYTES
from aqltelemetry.journal.labels import TABLE_BYTES, TABLE_NAME, LabelTable, read_table
from aqltelemetry.journal.salvage import read_recovered
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.recording import recorder, segment_pool, throttle
from aqltelemetry.recording.recorder import Recording, record
from aqltelemetry.recording.segment_pool import SegmentPool
from aqltelemetry.runtime.delivery import read_sealed
from aqltelemetry.system.clock import Anchor, monotonic_ns
from aqltelemetry.system.threads import WorkerThread
from fakes import EPOCH_NS, writer_options

_T = TypeVar("_T")
_CAPACITY = 32_597
_ANCHOR = Anchor(0, EPOCH_NS)


class Pooled:
    """A pool with its recording on; what it hands on is in `handed`."""

    def __init__(self, thread: WorkerThread, writer: Writer, max_bytes: int = 64 << 20) -> None:
        self.handed: list[SealedSegment] = []
        self.thread = thread
        self.writer = writer
        self.is_behind = False
        self.pool = SegmentPool(
            thread, writer, self.handed.append, max_bytes, lambda: self.is_behind
        )
        self.recording: Recording = self.on_thread(
            lambda: self.pool.open(self.writer.new_segment(), _ANCHOR)
        )
        recorder.install(self.recording)

    def on_thread(self, job: Callable[[], _T]) -> _T:
        return self.thread.submit(job).result(10)

    def settle(self) -> None:
        """Wait until the thread has done what it was asked to."""
        self.thread.submit(int).result(10)

    def fill(self) -> None:
        """Record what one segment takes."""
        for _ in range(_CAPACITY):
            record("x", 1.0)

    def files(self) -> list[str]:
        assert self.writer.path is not None
        return sorted(path.name for path in self.writer.path.iterdir())


@pytest.fixture
def pooled(tmp_path: Path, thread: WorkerThread) -> Iterator[Pooled]:
    yield from _pooled(tmp_path, thread)


@pytest.fixture
def small(tmp_path: Path, thread: WorkerThread) -> Iterator[Pooled]:
    yield from _pooled(tmp_path, thread, 4 * SEGMENT_BYTES)


def _pooled(tmp_path: Path, thread: WorkerThread, max_bytes: int = 64 << 20) -> Iterator[Pooled]:
    pooled = Pooled(thread, Writer.in_journal(tmp_path, writer_options()), max_bytes)
    pooled.settle()  # its spares are there, however busy the machine is
    yield pooled
    recorder.remove(pooled.recording)
    pooled.on_thread(pooled.pool.close)
    pooled.writer.close()


def test_two_spares_are_the_first_that_the_thread_makes(pooled: Pooled) -> None:
    pooled.settle()
    assert pooled.files() == ["000001.seg", "000002.seg", "000003.seg"]
    assert pooled.pool.journal_bytes == 3 * SEGMENT_BYTES


def test_a_full_segment_is_handed_on_and_replaced(pooled: Pooled) -> None:
    pooled.fill()
    record("one more", 1.0)
    pooled.settle()
    assert [sealed.id.sequence for sealed in pooled.handed] == [1]
    assert pooled.handed[0].accepted == _CAPACITY
    counts = pooled.pool.accounting.counts()
    assert (counts.in_journal, counts.published) == (_CAPACITY + 1, 0)
    assert pooled.files()[-1] >= "000004.seg"
    assert pooled.recording.drops == {}


def test_sealing_hands_on_what_was_recorded_in_a_file_of_its_size(pooled: Pooled) -> None:
    record("x", 1.0)
    pooled.on_thread(pooled.pool.seal)
    (sealed,) = pooled.handed
    assert sealed.accepted == 1
    assert sealed.size_bytes < SEGMENT_BYTES // 3


def test_an_unused_segment_is_not_sealed(pooled: Pooled) -> None:
    pooled.on_thread(pooled.pool.seal)
    assert pooled.handed == []


def test_what_is_kept_elsewhere_leaves_the_journal(pooled: Pooled) -> None:
    record("x", 1.0)
    pooled.on_thread(pooled.pool.seal)
    (sealed,) = pooled.handed
    pooled.on_thread(lambda: pooled.pool.release(sealed, 1))
    counts = pooled.pool.accounting.counts()
    assert (counts.in_journal, counts.published, counts.lost) == (0, 1, {})
    assert sealed.path is not None
    assert not sealed.path.exists()


@pytest.mark.parametrize(("records", "reason"), [(2, TORN), (None, UNREADABLE)])
def test_accepted_records_that_are_not_there_are_lost_with_a_reason(
    pooled: Pooled, records: int | None, reason: str
) -> None:
    for _ in range(5):
        record("x", 1.0)
    pooled.on_thread(pooled.pool.seal)
    (sealed,) = pooled.handed
    pooled.on_thread(lambda: pooled.pool.release(sealed, records))
    counts = pooled.pool.accounting.counts()
    assert counts.published == (records or 0)
    assert counts.lost == {reason: 5 - (records or 0)}


def test_at_its_limit_the_newest_is_dropped_and_counted(
    small: Pooled, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "aqltelemetry"):
        for _ in range(4):
            small.fill()
            small.settle()
        record("too many", 1.0)
        small.settle()
        record("still too many", 1.0)
    counts = small.pool.accounting.counts()
    assert small.pool.journal_bytes <= 4 * SEGMENT_BYTES
    assert counts.in_journal == 4 * _CAPACITY
    assert small.recording.drops == {NO_SEGMENT: 2}
    assert [each.message for each in caplog.records] == [
        "the journal is at its limit of 4194304 bytes; new observations are dropped once it is full"
    ]


def test_recording_goes_on_when_there_is_room_again(small: Pooled) -> None:
    for _ in range(4):
        small.fill()
        small.settle()
    record("dropped", 1.0)
    first = small.handed[0]
    small.on_thread(lambda: small.pool.release(first, first.accepted))
    record("pooled", 1.0)
    assert small.recording.drops == {NO_SEGMENT: 1}
    assert small.pool.accounting.counts().in_journal == 3 * _CAPACITY + 1


def test_a_journal_that_is_full_again_and_again_is_logged_once_a_minute(
    small: Pooled, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times_ns = (0, 1_000_000_000, 59_999_999_999, 60_000_000_000, 60_000_000_001)
    now_ns = [0]
    monkeypatch.setattr(segment_pool, "monotonic_ns", lambda: now_ns[0])
    logged = []
    with caplog.at_level(logging.WARNING, "aqltelemetry"):
        for now_ns[0] in times_ns:
            for _ in range(4):
                small.fill()
                small.settle()
            logged.append(len(caplog.records))
            while small.handed:
                sealed = small.handed.pop()
                small.on_thread(partial(small.pool.release, sealed, sealed.accepted))
    assert logged == [1, 1, 1, 2, 2]


def test_a_full_disk_is_logged_once_and_recovered_from(
    pooled: Pooled, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full() -> Segment:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "aqltelemetry"):
        patch.setattr(pooled.writer, "new_segment", full)
        for _ in range(2):
            record("x", 1.0)
            pooled.on_thread(pooled.pool.seal)
            pooled.on_thread(pooled.pool.refill)
        record("in the last spare", 1.0)
        pooled.on_thread(pooled.pool.seal)
    assert [each.message for each in caplog.records] == [
        "no room for the journal: [Errno 28] no space; new observations are dropped once it is full"
    ]
    pooled.on_thread(pooled.pool.refill)
    pooled.on_thread(pooled.pool.seal)
    assert sum(sealed.accepted or 0 for sealed in pooled.handed) == 3
    assert pooled.recording.drops == {}


def test_more_spares_are_made_the_faster_they_fill(pooled: Pooled) -> None:
    for _ in range(3):
        pooled.fill()
    pooled.settle()
    # One or two steps were met at once, depending on when the thread came to look.
    assert (
        pooled.pool.accounting.counts().in_journal + sum(pooled.recording.drops.values())
        == 3 * _CAPACITY
    )
    pooled.on_thread(pooled.pool.refill)
    assert len(pooled.files()) - len(pooled.handed) <= 17


def test_sealing_a_segment_makes_no_more_spares(pooled: Pooled) -> None:
    record("x", 1.0)
    pooled.on_thread(pooled.pool.seal)
    pooled.settle()
    assert pooled.files() == ["000001.seg", "000002.seg", "000003.seg", "000004.seg"]


def test_closing_hands_on_everything(pooled: Pooled) -> None:
    record("x", 1.0)
    recorder.remove(pooled.recording)
    pooled.on_thread(pooled.pool.close)
    assert [sealed.accepted for sealed in pooled.handed] == [1]
    assert pooled.files() == ["000001.seg"]


def _record_labels(count: int) -> None:
    for number in range(count):
        record(f"label {number}", 1.0)


def test_a_process_with_few_labels_makes_no_label_table(pooled: Pooled) -> None:
    _record_labels(256)
    pooled.on_thread(pooled.pool.seal)
    pooled.settle()
    assert TABLE_NAME not in pooled.files()
    assert pooled.writer.table is None


def test_many_labels_are_in_a_table_that_all_segments_share(pooled: Pooled) -> None:
    _record_labels(300)
    pooled.settle()
    assert TABLE_NAME in pooled.files()
    assert {segment.table for segment in pooled.pool.accounting.live} == {pooled.writer.table}
    assert pooled.pool.journal_bytes == 3 * SEGMENT_BYTES + TABLE_BYTES
    _record_labels(10_000)
    for _ in range(20_000):
        record("label 0", 1.0)
    assert pooled.recording.segment.header.sequence == 1
    assert pooled.recording.drops == {}


def test_no_later_segment_registers_a_label_again(pooled: Pooled) -> None:
    _record_labels(300)
    pooled.settle()
    for _ in range(3):
        _record_labels(300)
        pooled.on_thread(pooled.pool.seal)
    pooled.settle()
    assert pooled.recording.segment.header.sequence == 4
    assert pooled.writer.table is not None
    assert len(pooled.writer.table.labels.series) == 300
    for sealed in pooled.handed[1:]:
        data = sealed.read()
        assert not any(data[LABELS_AT:RECORDS_AT])
        assert read_sealed(sealed).records == 300


def test_a_burst_of_new_labels_is_kept_whole(pooled: Pooled) -> None:
    """Though no other thread gets the interpreter lock but what is given away."""
    _record_labels(10_000)
    assert pooled.recording.drops == {}


def test_no_label_table_is_made_beyond_the_journals_limit(
    tmp_path: Path, thread: WorkerThread
) -> None:
    for pooled in _pooled(tmp_path, thread, 4 * SEGMENT_BYTES):
        _record_labels(2_000)
        pooled.settle()
        assert pooled.pool.journal_bytes <= 4 * SEGMENT_BYTES
        assert TABLE_NAME not in pooled.files()
        assert pooled.pool.accounting.counts().in_journal == 2_000


def test_a_label_table_that_can_not_be_made_is_tried_again(
    pooled: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> LabelTable:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(pooled.writer, "make_table", full)
        _record_labels(300)
        pooled.settle()
    assert TABLE_NAME not in pooled.files()
    pooled.on_thread(pooled.pool.refill)
    assert TABLE_NAME in pooled.files()
    assert pooled.recording.drops == {}


def test_a_journal_that_is_removed_costs_its_label_table_no_record(pooled: Pooled) -> None:
    _record_labels(300)
    pooled.settle()
    before = pooled.writer.table
    assert pooled.writer.path is not None
    shutil.rmtree(pooled.writer.path)
    for _ in range(6):
        _record_labels(300)
        pooled.on_thread(pooled.pool.seal)
    pooled.settle()
    assert pooled.writer.table is not before
    assert TABLE_NAME in pooled.files()
    assert [read_sealed(sealed).records for sealed in pooled.handed] == [600] + 5 * [300]
    on_disk = [sealed for sealed in pooled.handed if sealed.path and sealed.path.exists()]
    labels = read_table(pooled.writer.path)
    for sealed in on_disk:
        reading = read_recovered(sealed.read(), sealed.id, pid=1, at_ns=EPOCH_NS, labels=labels)
        assert (reading.records, reading.damaged) == (300, 0)
    assert on_disk


def test_a_writer_in_memory_has_its_labels_there(thread: WorkerThread) -> None:
    pooled = Pooled(thread, Writer.in_memory(writer_options()))
    _record_labels(10_000)
    pooled.settle()
    assert pooled.writer.table is not None
    recorder.remove(pooled.recording)
    pooled.on_thread(pooled.pool.close)
    assert sum(read_sealed(sealed).records for sealed in pooled.handed) == 10_000
    assert pooled.recording.drops == {}


def _breaths(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(throttle, "yield_gil", lambda: taken.append(0.0))
    return taken


def test_a_recorder_waits_for_a_moment_only_where_the_threads_are_behind(
    pooled: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled.settle()
    taken = _breaths(monkeypatch)
    pooled.fill()  # its spares are there
    pooled.settle()
    assert taken == []
    pooled.is_behind = True
    record("x", 1.0)  # new to its segment, so it goes the slow way
    assert len(taken) == 1
    record("x", 1.0)  # the usual way
    assert len(taken) == 1
    pooled.is_behind = False
    record("new", 1.0)
    assert len(taken) == 1


def test_it_waits_where_no_spare_is_ready(pooled: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled.settle()
    taken = _breaths(monkeypatch)
    segment = pooled.recording.segment
    pooled.pool.throttle(segment)
    successor, segment.successor = segment.successor, None
    pooled.pool.throttle(segment)  # which lasts
    assert taken == []
    segment.successor = successor
    for _ in range(4096):
        record("x", 1.0)
    pooled.pool.throttle(segment)
    assert taken == []
    segment.successor = None
    pooled.pool.throttle(segment)
    assert len(taken) == 1


def test_moments_that_lead_nowhere_end_and_begin_again_with_the_next_step(
    pooled: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled.fill()
    record("x", 1.0)
    pooled.settle()
    pooled.is_behind = True
    taken = _breaths(monkeypatch)
    for _ in range(2000):
        pooled.pool.throttle(pooled.recording.segment)
    assert 0 < len(taken) < 2000
    before = len(taken)
    pooled.on_thread(lambda: pooled.pool.release(pooled.handed[0], _CAPACITY))
    for _ in range(2000):
        pooled.pool.throttle(pooled.recording.segment)
    assert len(taken) == 2 * before


def _block() -> None:
    with time_block("x"):
        pass


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pool's clock, in seconds, as its only element."""
    now = [monotonic_ns() / 1e9]
    monkeypatch.setattr(segment_pool, "monotonic_ns", lambda: int(now[0] * 1e9))
    return now


@pytest.mark.parametrize(
    ("observe", "is_kept"),
    [
        (lambda pooled: pooled.recording.append(("runtime", "rss"), 1), True),
        (lambda _: record("x", 1.0), False),
        (lambda _: _block(), False),
        (
            lambda pooled: [pooled.recording.append(("runtime", "rss"), 1) for _ in range(5_000)],
            False,
        ),
    ],
    ids=["samples", "a value", "a duration", "many samples"],
)
def test_a_segment_with_a_few_samples_alone_is_kept_for_a_while(
    pooled: Pooled, seconds: list[float], observe: Callable[[Pooled], object], is_kept: bool
) -> None:
    pooled.on_thread(lambda: pooled.pool.seal(60.0))
    pooled.on_thread(pooled.pool.seal)  # from now on
    seconds[0] += 5
    pooled.recording.append(("runtime", "threads"), 1)
    observe(pooled)
    pooled.on_thread(lambda: pooled.pool.seal(60.0))
    assert len(pooled.handed) == (not is_kept)
    seconds[0] += 56
    pooled.on_thread(lambda: pooled.pool.seal(60.0))
    assert len(pooled.handed) == 1


def test_a_segment_that_shares_a_table_of_labels_is_never_kept(
    pooled: Pooled, seconds: list[float]
) -> None:
    for number in range(300):
        pooled.recording.append(("runtime", f"label {number}"), 1)
    pooled.settle()
    pooled.on_thread(pooled.pool.refill)
    pooled.on_thread(lambda: pooled.pool.seal(60.0))
    assert len(pooled.handed) == 1
