from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import LabelTable, TableLabels, random_table_base
from aqltelemetry.journal.salvage import as_last, read_recovered
from aqltelemetry.observation import SegmentId
from aqltelemetry.recording import recorder
from fakes import EPOCH_NS, memory_segments, recording
from figures import spread

_MUTANTS = int(os.environ.get("MUTANTS", "2000"))


def _segment() -> tuple[bytes, SegmentId]:
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    recorder.install(session)
    for number in range(300):
        recorder.append_duration(f"/{number % 5}", number, number)
    session.drop("invalid")
    recorder.remove(session)
    return segment.map[: fmt.RECORDS_AT + 320 * fmt.RECORD_BYTES], segment.id


_GOOD, _ID = _segment()


def _rows(data: bytes, segment: SegmentId = _ID) -> set[tuple[str, float]]:
    reading = read_recovered(data, segment, pid=7, at_ns=1)
    assert reading.batch.segment == segment
    return {
        (column.series.label, value) for column in reading.batch.columns for value in column.values
    }


_TRUTH = _rows(_GOOD)


def test_a_whole_segment_is_read_as_it_is() -> None:
    reading = read_recovered(_GOOD, _ID, pid=7, at_ns=1)
    assert (reading.records, reading.damaged, reading.is_whole) == (300, 0, True)


def test_without_its_header_it_gives_every_record_all_the_same() -> None:
    reading = read_recovered(bytes(fmt.ANCHORS_AT) + _GOOD[fmt.ANCHORS_AT :], _ID, pid=7, at_ns=1)
    assert (reading.records, reading.damaged, reading.is_whole) == (300, 0, False)
    assert reading.batch.pid == 7
    assert reading.batch.account is not None
    assert reading.batch.account.is_damaged
    assert [each[:2] for each in reading.batch.account.dropped] == [("invalid", 1)]


@pytest.mark.parametrize("data", [b"", b"x", bytes(1 << 20), os.urandom(1 << 19)])
def test_what_is_no_segment_at_all_gives_no_row_but_an_account(data: bytes) -> None:
    reading = as_last(read_recovered(data, _ID, pid=7, at_ns=1))
    assert (reading.records, reading.is_whole) == (0, False)
    assert reading.batch.account is not None
    assert (reading.batch.account.is_last, reading.batch.account.at_ns) == (True, 1)


def test_a_copy_of_another_segment_is_not_published_again() -> None:
    assert _rows(_GOOD, SegmentId("f" * 16, 3)) == set()


def test_row_30_no_damage_raises_or_makes_a_false_row(
    record_property: Callable[[str, object], None],
) -> None:
    """MUTANTS=100000 for the long run; the seed is fixed, so a failure can be repeated."""
    dice = random.Random(30)
    for _ in range(_MUTANTS):
        assert _rows(_damaged(dice)) <= _TRUTH
    record_property("runs", _MUTANTS)
    record_property("got", f"{_MUTANTS:,} mutants: 0 exceptions, 0 false rows")


def test_row_30_all_but_the_damaged_records_of_a_full_segment_are_read(
    record_property: Callable[[str, object], None],
) -> None:
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    recorder.install(session)
    for number in range(segment.capacity):
        recorder.append_duration("x", number, number)
    recorder.remove(session)
    data = bytearray(segment.map[:])
    for at in range(fmt.RECORDS_AT, len(data) - fmt.RECORD_BYTES, 1_000 * fmt.RECORD_BYTES):
        data[at] ^= 1
    times_ns = []
    for _ in range(20):
        begun_ns = time.perf_counter_ns()
        reading = read_recovered(bytes(data), segment.id, pid=7, at_ns=1)
        times_ns.append(time.perf_counter_ns() - begun_ns)
    damaged = len(range(fmt.RECORDS_AT, len(data) - fmt.RECORD_BYTES, 1_000 * fmt.RECORD_BYTES))
    assert (reading.records, reading.damaged) == (segment.capacity - damaged, damaged)
    record_property("got", f"a full MiB is read in {spread(times_ns)}")


def _damaged(dice: random.Random) -> bytes:
    data = bytearray(_GOOD)
    for _ in range(dice.randrange(1, 20)):
        places = (range(fmt.ANCHORS_AT), range(fmt.ANCHORS_AT, fmt.LABELS_AT), range(len(data)))
        at = dice.choice(dice.choice((*places, range(fmt.RECORDS_AT, len(data)))))
        match dice.randrange(6):
            case 0:
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                data[at : at + 8] = dice.randbytes(8)
            case 2:
                data[at : at + 24] = data[-24 - at % 999 :][:24]
            case 3:
                data[at : at + 256] = bytes(256)
            case 4:
                data[: fmt.ANCHORS_AT] = dice.randbytes(fmt.ANCHORS_AT)
            case _ if dice.random() < 0.2:  # cut, or with a hole at its end
                return bytes(data[:at]).ljust(dice.choice((0, len(_GOOD))), b"\0")
    return bytes(data)


def _with_table() -> tuple[bytes, SegmentId, TableLabels]:
    """Record under labels of a table alone."""
    table = LabelTable(None, random_table_base())
    (segment,) = memory_segments(1)
    segment.share(table)
    session, _ = recording(segment)
    recorder.install(session)
    for number in range(300):
        recorder.append_duration(f"/{number % 5}", number, number)
    recorder.remove(session)
    return segment.map[: fmt.RECORDS_AT + 320 * fmt.RECORD_BYTES], segment.id, table.labels


@pytest.mark.parametrize("lost_bytes", [fmt.ANCHORS_AT, fmt.LABELS_AT])
def test_without_its_header_it_gives_what_the_table_names_all_the_same(lost_bytes: int) -> None:
    data, segment, labels = _with_table()
    data = bytes(lost_bytes) + data[lost_bytes:]
    reading = read_recovered(data, segment, pid=7, at_ns=1, labels=labels)
    assert (reading.records, reading.damaged, reading.is_whole) == (300, 0, False)
    times = {each for column in reading.batch.columns for each in column.timepoints_ns}
    # With the anchors, the base that they are found by is known.
    assert (min(times) >= EPOCH_NS) is (lost_bytes == fmt.ANCHORS_AT)


@pytest.mark.parametrize("data", [b"", b"x", bytes(1 << 20), os.urandom(1 << 19)])
def test_what_is_no_segment_gives_no_row_with_a_table_either(data: bytes) -> None:
    _, segment, labels = _with_table()
    reading = read_recovered(data, segment, pid=7, at_ns=1, labels=labels)
    assert (reading.records, reading.is_whole) == (0, False)
    assert reading.batch.account is not None
