from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import pairwise

from aqltelemetry.clock import Anchor
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.segment import BlankSegment, Counter, Segment
from fakes import header, memory_segments


def _take(segment: Segment, count: int) -> list[int]:
    return [next(segment.slots) for _ in range(count)]


def _repeat(call: Callable[[], None], times: int) -> None:
    for _ in range(times):
        call()


def test_a_counter_loses_no_step_of_any_thread() -> None:
    counter = Counter()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=_repeat, args=(counter.step, 20_000)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert counter.value == 80_000


def test_slots_fill_the_segment_without_overlap() -> None:
    (segment,) = memory_segments(1)
    positions = list(segment.slots)
    assert positions[0] == fmt.RECORDS_AT
    assert positions[-1] + fmt.RECORD_BYTES <= segment.size_bytes
    assert {after - before for before, after in pairwise(positions)} == {fmt.RECORD_BYTES}


def test_taken_counts_the_slots_that_were_given_out() -> None:
    (segment,) = memory_segments(1)
    _take(segment, 5)
    assert segment.taken == 5


def test_an_exhausted_segment_gives_out_nothing_and_knows_where_its_records_end() -> None:
    (segment,) = memory_segments(1)
    _take(segment, 5)
    end = segment.exhaust()
    assert end == fmt.RECORDS_AT + 5 * fmt.RECORD_BYTES
    assert next(segment.slots, None) is None
    assert segment.taken == 5


def test_a_full_segment_ends_with_its_last_record() -> None:
    (segment,) = memory_segments(1)
    _take(segment, segment.capacity)
    assert segment.exhaust() == fmt.RECORDS_AT + segment.capacity * fmt.RECORD_BYTES
    assert segment.taken == segment.capacity


def test_slots_taken_while_it_is_exhausted_are_counted_exactly() -> None:
    (segment,) = memory_segments(1)
    taken = [0] * 4
    begun = threading.Barrier(5)

    def take(index: int) -> None:
        begun.wait()
        while next(segment.slots, None) is not None:
            taken[index] += 1

    threads = [threading.Thread(target=take, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    segment.exhaust()
    for thread in threads:
        thread.join()
    assert segment.taken == sum(taken)


def test_a_series_has_one_id_however_often_it_is_registered() -> None:
    (segment,) = memory_segments(1)
    assert segment.register("/a") == segment.register("/a")
    assert segment.register("/a") != segment.register("/b")
    assert segment.register("/a") != segment.register(("custom", "/a"))


def test_labels_that_are_cleaned_alike_are_one_series() -> None:
    (segment,) = memory_segments(1)
    assert segment.register("a\nb") == segment.register(r"a\nb")


def test_a_huge_label_is_not_kept_in_memory() -> None:
    (segment,) = memory_segments(1)
    segment.register("x" * 1_000_000)
    assert max(len(key) for key in segment.ids) <= 200


def test_a_full_label_table_gives_out_no_id() -> None:
    (segment,) = memory_segments(1)
    ids = [segment.register(f"label {number}") for number in range(fmt.LABEL_SLOTS)]
    assert len(set(ids)) == fmt.LABEL_SLOTS
    assert segment.register("one more") is None
    assert segment.register("label 5") == ids[5]


def test_anchors_stay_clear_of_the_marks_and_labels() -> None:
    (segment,) = memory_segments(1)
    segment.register("/first")
    entry = segment.map[fmt.LABELS_AT : fmt.LABELS_AT + fmt.LABEL_SLOT_BYTES]
    count = 0
    while segment.append_anchor(Anchor(count, count)):
        count += 1
    assert count == 117
    assert segment.map[fmt.LABELS_AT : fmt.LABELS_AT + fmt.LABEL_SLOT_BYTES] == entry


def test_a_blank_segment_takes_no_record_and_no_label() -> None:
    segment = BlankSegment(header())
    assert next(segment.slots, None) is None
    assert segment.register("/a") is None
    assert segment.taken == 0
