from __future__ import annotations

import pytest

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.counters import CounterName, CounterValue, read_counters, store_counter
from aqltelemetry.journal.segment import Segment
from fakes import memory_segments


@pytest.fixture
def segment() -> Segment:
    return memory_segments(1)[0]


def _read(segment: Segment) -> dict[CounterName, CounterValue]:
    return dict(read_counters(segment.map[:], segment.header.id_base))


def test_a_segment_without_counters_has_none(segment: Segment) -> None:
    assert _read(segment) == {}


@pytest.mark.parametrize("counter", CounterName)
def test_the_last_value_of_a_counter_counts(segment: Segment, counter: CounterName) -> None:
    for value in range(10):
        store_counter(segment, counter, value, 100 + value)
    assert _read(segment) == {counter: CounterValue(9, 109)}


def test_marks_do_not_touch_each_other_nor_anchors_and_labels(segment: Segment) -> None:
    for counter in CounterName:
        for value in range(8):
            store_counter(segment, counter, value + 10 * counter, 0)
    assert _read(segment) == {counter: CounterValue(7 + 10 * counter, 0) for counter in CounterName}
    page = segment.map[: fmt.LABELS_AT + fmt.LABEL_SLOT_BYTES]
    assert not any(page[fmt.ANCHORS_AT : fmt.COUNTERS_AT])
    assert not any(page[fmt.LABELS_AT :])


@pytest.mark.parametrize("cut", range(fmt.RECORD_BYTES))
def test_a_value_that_was_stored_in_part_leaves_the_one_before(segment: Segment, cut: int) -> None:
    store_counter(segment, CounterName.NO_SEGMENT, 4, 1)
    before = segment.map[:]
    store_counter(segment, CounterName.NO_SEGMENT, 5, 2)
    changed = [n for n in range(len(before)) if before[n] != segment.map[n]]
    at = fmt.COUNTERS_AT + (changed[0] - fmt.COUNTERS_AT) // fmt.RECORD_BYTES * fmt.RECORD_BYTES
    for n in range(at + cut, at + fmt.RECORD_BYTES):
        segment.map[n] = before[n]
    assert _read(segment)[CounterName.NO_SEGMENT] in (CounterValue(4, 1), CounterValue(5, 2))
    assert cut == fmt.RECORD_BYTES - 1 or _read(segment)[CounterName.NO_SEGMENT] == CounterValue(
        4, 1
    )


def test_a_thread_that_comes_late_takes_nothing_back(segment: Segment) -> None:
    for value in (8, 5, 4):
        store_counter(segment, CounterName.NO_SEGMENT, value, value)
    assert _read(segment) == {CounterName.NO_SEGMENT: CounterValue(8, 8)}


@pytest.mark.parametrize("byte", range(fmt.RECORD_BYTES))
def test_a_damaged_counter_is_ignored(segment: Segment, byte: int) -> None:
    store_counter(segment, CounterName.ENDED, 1, 7)
    data = bytearray(segment.map[:])
    at = next(n for n in range(fmt.COUNTERS_AT, fmt.LABELS_AT) if data[n])
    at -= (at - fmt.COUNTERS_AT) % fmt.RECORD_BYTES
    data[at + byte] ^= 1
    assert read_counters(bytes(data), segment.header.id_base) == {}


def test_a_mark_of_another_segment_is_none(segment: Segment) -> None:
    store_counter(segment, CounterName.ENDED, 1, 7)
    assert read_counters(segment.map[:], segment.header.id_base + 1) == {}
