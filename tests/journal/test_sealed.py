from __future__ import annotations

from pathlib import Path

import pytest

from aqltelemetry.journal.counters import NO_SEGMENT
from aqltelemetry.journal.format import RECORDS_AT, SEGMENT_BYTES
from aqltelemetry.journal.reader import read_segment
from aqltelemetry.journal.sealed import SealedSegment, seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.recording import recorder
from aqltelemetry.recording.recorder import record
from fakes import memory_segments, recording, writer_options


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return Writer.in_journal(tmp_path, writer_options()).new_segment()


def _record(segment: Segment, count: int) -> None:
    session, _ = recording(segment)
    recorder.install(session)
    for _ in range(count):
        record("x", 1.0)
    recorder.remove(session)


def test_a_sealed_segment_takes_no_more_records(segment: Segment) -> None:
    _record(segment, 3)
    sealed = seal(segment)
    session, _ = recording(segment)
    recorder.install(session)
    record("late", 1.0)
    recorder.remove(session)
    assert session.drops == {NO_SEGMENT: 1}
    assert sealed.accepted == segment.taken == 3
    assert not sealed.recovered


def test_the_room_that_is_not_used_is_given_back(segment: Segment) -> None:
    _record(segment, 3)
    sealed = seal(segment)
    assert sealed.path is not None
    assert sealed.size_bytes == sealed.path.stat().st_size == RECORDS_AT + 3 * 24
    assert read_segment(sealed.read(), recovered=True, yield_gil=lambda: None).records == 3


def test_a_full_segment_keeps_its_size(segment: Segment) -> None:
    _record(segment, segment.capacity)
    assert SEGMENT_BYTES - seal(segment).size_bytes < 24


def test_a_segment_in_memory_is_read_from_there() -> None:
    (segment,) = memory_segments(1)
    _record(segment, 3)
    sealed = seal(segment)
    assert sealed.path is None
    assert read_segment(sealed.read(), recovered=False, yield_gil=lambda: None).records == 3
    sealed.discard()


def test_discarding_removes_the_file_and_may_be_repeated(segment: Segment) -> None:
    sealed = seal(segment)
    sealed.discard()
    sealed.discard()
    assert sealed.path is not None
    assert not sealed.path.exists()


def test_a_file_found_is_recovered_and_of_no_size_once_gone(segment: Segment) -> None:
    assert segment.path is not None
    assert SealedSegment(segment.id, segment.path).recovered
    segment.path.unlink()
    assert SealedSegment(segment.id, segment.path).size_bytes == 0
