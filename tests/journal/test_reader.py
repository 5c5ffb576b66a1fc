from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import (
    NO_LABELS,
    LabelTable,
    TableLabels,
    random_table_base,
)
from aqltelemetry.journal.reader import Context, read_segment
from aqltelemetry.observation import DURATION, Kind, Series
from aqltelemetry.recording import recorder
from aqltelemetry.system.clock import Anchor
from fakes import EPOCH_NS, memory_segments, recording

Row = tuple[str, str, int, float]


def _written(rows: list[tuple[str, int]], values: list[tuple[str, float]] = []) -> bytes:  # noqa: B006
    """Record durations that end at 1, 2, 3, ... and values; return the segment's bytes."""
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    recorder.install(session)
    try:
        for number, (label, duration_ns) in enumerate(rows, 1):
            recorder.append_duration(label, number, duration_ns)
        for label, value in values:
            recorder.record(label, value)
    finally:
        recorder.remove(session)
    return segment.map[:]


def _rows(data: bytes, *, recovered: bool = False) -> list[Row]:
    batch = read_segment(data, recovered=recovered, yield_gil=lambda: None).batch
    return [
        (column.series.prefix, column.series.label, at_ns, value)
        for column in batch.columns
        for at_ns, value in zip(column.timepoints_ns, column.values, strict=True)
    ]


@pytest.mark.parametrize("recovered", [False, True])
def test_every_record_is_read_with_its_timepoint(recovered: bool) -> None:
    data = _written([("/a", 10), ("/b", 20), ("/a", 30)])
    assert sorted(_rows(data, recovered=recovered)) == [
        (DURATION, "/a", EPOCH_NS + 1, 10),
        (DURATION, "/a", EPOCH_NS + 3, 30),
        (DURATION, "/b", EPOCH_NS + 2, 20),
    ]


def test_values_keep_every_bit() -> None:
    values = [("x", value) for value in (0.1, -1e308, 5e-324, float("inf"), 3.0)]
    assert [value for *_, value in _rows(_written([], values))] == [value for _, value in values]


def test_a_batch_says_whose_it_is() -> None:
    data = _written([("/a", 10)])
    reading = read_segment(data, recovered=True, yield_gil=lambda: None)
    head = fmt.unpack_header(data)
    assert reading.batch.segment == (head.writer, head.sequence)
    assert (reading.batch.pid, reading.batch.recovered) == (head.pid, True)
    assert (reading.records, reading.damaged, reading.batch.rows) == (1, 0, 1)


def test_a_segment_of_many_blocks_is_read_whole() -> None:
    rows = [(f"/{number % 7}", number) for number in range(5_000)]
    assert len(_rows(_written(rows), recovered=True)) == 5_000


def test_records_behind_a_hole_are_read() -> None:
    data = bytearray(_written([("/a", 10), ("/a", 20), ("/a", 30)]))
    hole = fmt.RECORDS_AT + fmt.RECORD_BYTES
    data[hole : hole + fmt.RECORD_BYTES] = bytes(fmt.RECORD_BYTES)
    assert [value for *_, value in _rows(bytes(data), recovered=True)] == [10, 30]


def test_a_damaged_record_costs_itself_alone_and_is_counted() -> None:
    data = bytearray(_written([("/a", 10), ("/a", 20), ("/a", 30)]))
    data[fmt.RECORDS_AT + fmt.RECORD_BYTES + 3] ^= 0x40
    reading = read_segment(bytes(data), recovered=True, yield_gil=lambda: None)
    assert (reading.records, reading.damaged) == (2, 1)


def test_a_damaged_label_costs_its_records_alone() -> None:
    data = bytearray(_written([("/a", 10), ("/b", 20)]))
    data[fmt.LABELS_AT + 14] ^= 1
    reading = read_segment(bytes(data), recovered=True, yield_gil=lambda: None)
    assert [column.series.label for column in reading.batch.columns] == ["/b"]
    assert reading.damaged == 1


def test_a_truncated_segment_gives_the_records_that_are_left() -> None:
    data = _written([("/a", number) for number in range(100)])
    cut = fmt.RECORDS_AT + 40 * fmt.RECORD_BYTES + 11
    assert len(_rows(data[:cut], recovered=True)) == 40


def test_a_segment_without_an_anchor_falls_back_to_its_creation() -> None:
    data = bytearray(_written([("/a", 10)]))
    data[fmt.ANCHORS_AT : fmt.LABELS_AT] = bytes(fmt.LABELS_AT - fmt.ANCHORS_AT)
    assert _rows(bytes(data)) == [(DURATION, "/a", EPOCH_NS + 1, 10)]


def test_the_same_label_with_two_ids_is_one_series() -> None:
    (segment,) = memory_segments(1)
    series = Series(DURATION, "/a", Kind.NANOSECONDS)
    segment.append_anchor(Anchor(0, EPOCH_NS))
    for slot in (0, 1):
        at = fmt.LABELS_AT + slot * fmt.LABEL_SLOT_BYTES
        entry = fmt.pack_label(segment.header.id_base + 1 + slot, series)
        segment.map[at : at + len(entry)] = entry
        at = next(segment.slots)
        record = struct.pack("<qqII", 1, slot, segment.header.id_base + 1 + slot, 0)
        segment.map[at : at + len(record)] = record
    assert [value for *_, value in _rows(segment.map[:])] == [0, 1]
    batch = read_segment(segment.map[:], recovered=False, yield_gil=lambda: None).batch
    assert len(batch.columns) == 1


_GOOD = _written([(f"/{number % 5}", number) for number in range(300)])
_END = fmt.RECORDS_AT + 320 * fmt.RECORD_BYTES
_TRUTH = set(_rows(_GOOD))


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_damage_makes_a_false_row(dice: random.Random) -> None:
    """Flips, overwrites, moves and cuts of a segment give none but rows that were recorded."""
    data = bytearray(_GOOD[:_END])
    for _ in range(dice.randrange(1, 20)):
        at = dice.choice([dice.randrange(len(data)), dice.randrange(fmt.RECORDS_AT, len(data))])
        match dice.randrange(4):
            case 0:
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                data[at : at + 8] = dice.randbytes(8)
            case 2:
                data[at : at + 24] = data[-24 - at % 999 : -at % 999 or None][:24]
            case _:
                del data[at:]
                data.extend(bytes(_END - len(data)))
    try:
        found = _rows(bytes(data), recovered=True)
    except SegmentError:
        return
    values = {(label, value) for _, label, _, value in found}
    assert values <= {(label, value) for _, label, _, value in _TRUTH}


def _shared(count: int) -> tuple[bytes, TableLabels]:
    """Record durations of as many labels of a table as of the segment's own, in turn."""
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    table = LabelTable(None, random_table_base())
    recorder.install(session)
    try:
        for number in range(count):
            recorder.append_duration(f"/own {number}", 2 * number, number)
        segment.share(table)
        for number in range(count):
            recorder.append_duration(f"/{number}", 2 * number + 1, number)
    finally:
        recorder.remove(session)
    return segment.map[:], table.labels


@pytest.mark.parametrize("recovered", [False, True])
def test_labels_of_the_table_are_read_with_those_of_the_segment(recovered: bool) -> None:
    data, labels = _shared(700)
    reading = read_segment(
        data, recovered=recovered, context=Context(labels=labels), yield_gil=lambda: None
    )
    assert (reading.records, reading.damaged) == (1400, 0)
    found = {each.series.label: list(each.values) for each in reading.batch.columns}
    assert found == {
        f"{name}{number}": [number] for name in ("/", "/own ") for number in range(700)
    }


def test_labels_that_the_table_does_not_name_cost_their_records_alone() -> None:
    data, labels = _shared(100)
    some = dict(list(labels.series.items())[30:])
    for known, lost in ((labels._replace(series=some), 30), (NO_LABELS, 100)):
        reading = read_segment(
            data, recovered=True, context=Context(labels=known), yield_gil=lambda: None
        )
        assert (reading.records, reading.damaged) == (200 - lost, lost)
        assert reading.batch.account is not None
        assert reading.batch.account.accepted == 200


def test_the_interpreter_is_let_go_of_between_many_labels() -> None:
    data, labels = _shared(1024)
    rests: list[int] = []
    read_segment(
        data, recovered=False, context=Context(labels=labels), yield_gil=lambda: rests.append(1)
    )
    assert len(rests) > 2 * 1024 // 512
