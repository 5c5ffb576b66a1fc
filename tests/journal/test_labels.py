from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry import Monitor, record, time_block
from aqltelemetry.journal.labels import MAX_LABELS, OTHER_LABELS, LabelLimit
from aqltelemetry.journal.reader import read_segment
from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import CUSTOM, DURATION, Kind, Series
from aqltelemetry.recording import recorder
from aqltelemetry.system.clock import monotonic_ns
from fakes import memory_segments, recording


def test_the_first_labels_are_admitted_for_good() -> None:
    limit = LabelLimit(2)
    series = [Series(DURATION, label, Kind.NANOSECONDS) for label in "abcabc"]
    assert [limit.admit(each).label for each in series] == ["a", "b", OTHER_LABELS] * 2


def test_a_label_of_two_prefixes_counts_twice_and_keeps_its_prefix() -> None:
    limit = LabelLimit(1)
    limit.admit(Series(DURATION, "a", Kind.NANOSECONDS))
    other = limit.admit(Series(CUSTOM, "a", Kind.FLOAT))
    assert other == (CUSTOM, OTHER_LABELS, Kind.FLOAT)


def _limited(max_labels: int) -> Segment:
    (made,) = memory_segments(1)
    return Segment(made.map, made.header, None, LabelLimit(max_labels))


def test_observations_beyond_the_limit_are_recorded_under_one_label() -> None:
    segment = _limited(3)
    session, _ = recording(segment)
    recorder.install(session)
    for number in range(100):
        with time_block(f"label {number}"):
            pass
        record("label 0", number)
    recorder.remove(session)
    batch = read_segment(segment.map[:], recovered=True, yield_gil=lambda: None).batch
    counts = {each.series[:2]: len(each.values) for each in batch.columns}
    assert counts == {
        **{(DURATION, f"label {number}"): 1 for number in range(2)},
        (CUSTOM, "label 0"): 100,
        (DURATION, OTHER_LABELS): 98,
    }
    assert len(segment.ids) == 4


@pytest.mark.system
async def test_row_41_a_million_labels_cost_bounded_memory_and_are_all_counted(
    directory: Path,
    counts: Callable[[str], Counter[str]],
    record_property: Callable[[str, object], None],
) -> None:
    """The observations, not the labels, are a million fewer here; each label is a new one."""
    async with Monitor(directory, with_runtime=False, max_file_age_s=0.2) as mine:
        _record_new_labels(0, MAX_LABELS)
        await mine.flush()
        tracemalloc.start()
        _record_new_labels(MAX_LABELS, 100_000)
        await mine.flush()
        grown_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    found = counts(DURATION)
    dropped = sum(mine.stats().dropped.values())
    assert found.total() + dropped == MAX_LABELS + 100_000
    assert len(found) <= MAX_LABELS + 1
    assert found[OTHER_LABELS] >= 100_000 - dropped
    assert grown_bytes < 4 << 20
    got = f"{MAX_LABELS + 100_000:,} labels, {dropped:,} dropped and counted, the rest in the files"
    record_property("got", f"{got}; memory grew by {grown_bytes / 2**20:.2f} MiB beyond the limit")


def _record_new_labels(first: int, count: int) -> None:
    for number in range(first, first + count):
        recorder.append_duration(f"label {number}", monotonic_ns(), 1)
