from __future__ import annotations

import pytest

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.counters import Mark, Marked, read_marks
from aqltelemetry.journal.segment import Segment
from fakes import memory_segments


@pytest.fixture
def segment() -> Segment:
    return memory_segments(1)[0]


def _read(segment: Segment) -> dict[Mark, Marked]:
    return dict(read_marks(segment.map[:], segment.header.id_base))


def test_a_segment_without_marks_has_none(segment: Segment) -> None:
    assert _read(segment) == {}


@pytest.mark.parametrize("mark", Mark)
def test_the_last_value_of_a_mark_counts(segment: Segment, mark: Mark) -> None:
    for value in range(10):
        segment.mark(mark, value, 100 + value)
    assert _read(segment) == {mark: Marked(9, 109)}


def test_marks_do_not_touch_each_other_nor_anchors_and_labels(segment: Segment) -> None:
    for mark in Mark:
        for value in range(8):
            segment.mark(mark, value + 10 * mark, 0)
    assert _read(segment) == {mark: Marked(7 + 10 * mark, 0) for mark in Mark}
    page = segment.map[: fmt.LABELS_AT + fmt.LABEL_SLOT_BYTES]
    assert not any(page[fmt.ANCHORS_AT : fmt.MARKS_AT])
    assert not any(page[fmt.LABELS_AT :])


@pytest.mark.parametrize("cut", range(fmt.RECORD_BYTES))
def test_a_value_that_was_stored_in_part_leaves_the_one_before(segment: Segment, cut: int) -> None:
    segment.mark(Mark.NO_SEGMENT, 4, 1)
    before = segment.map[:]
    segment.mark(Mark.NO_SEGMENT, 5, 2)
    changed = [n for n in range(len(before)) if before[n] != segment.map[n]]
    at = fmt.MARKS_AT + (changed[0] - fmt.MARKS_AT) // fmt.RECORD_BYTES * fmt.RECORD_BYTES
    for n in range(at + cut, at + fmt.RECORD_BYTES):
        segment.map[n] = before[n]
    assert _read(segment)[Mark.NO_SEGMENT] in (Marked(4, 1), Marked(5, 2))
    assert cut == fmt.RECORD_BYTES - 1 or _read(segment)[Mark.NO_SEGMENT] == Marked(4, 1)


def test_a_thread_that_comes_late_takes_nothing_back(segment: Segment) -> None:
    for value in (8, 5, 4):
        segment.mark(Mark.NO_SEGMENT, value, value)
    assert _read(segment) == {Mark.NO_SEGMENT: Marked(8, 8)}


@pytest.mark.parametrize("byte", range(fmt.RECORD_BYTES))
def test_a_damaged_mark_is_none(segment: Segment, byte: int) -> None:
    segment.mark(Mark.END, 1, 7)
    data = bytearray(segment.map[:])
    at = next(n for n in range(fmt.MARKS_AT, fmt.LABELS_AT) if data[n])
    at -= (at - fmt.MARKS_AT) % fmt.RECORD_BYTES
    data[at + byte] ^= 1
    assert read_marks(bytes(data), segment.header.id_base) == {}


def test_a_mark_of_another_segment_is_none(segment: Segment) -> None:
    segment.mark(Mark.END, 1, 7)
    assert read_marks(segment.map[:], segment.header.id_base + 1) == {}
