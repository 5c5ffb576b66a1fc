from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import pairwise

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import (
    OTHER_LABELS,
    TABLE_SLOTS,
    LabelLimit,
    LabelTable,
    random_table_base,
)
from aqltelemetry.journal.segment import AtomicCounter, BlankSegment, Segment
from aqltelemetry.observation import Kind, Series
from aqltelemetry.system.clock import Anchor
from fakes import header, memory_segments


def _take(segment: Segment, count: int) -> list[int]:
    return [next(segment.slots) for _ in range(count)]


def _repeat(call: Callable[[], None], times: int) -> None:
    for _ in range(times):
        call()


def test_a_counter_loses_no_step_of_any_thread() -> None:
    counter = AtomicCounter()
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


def test_a_segment_that_shares_a_table_gives_out_its_ids() -> None:
    table = LabelTable(None, random_table_base())
    (segment,) = memory_segments(1)
    own = segment.register("/a")
    segment.share(table)
    assert segment.id_of("/a") == table.ids["/a"] != own
    assert segment.id_of(("custom", "a\nb")) == table.ids["custom", "a\nb"]
    assert segment.ids is table.ids


def test_all_segments_of_a_table_know_what_one_of_them_registered() -> None:
    table = LabelTable(None, random_table_base())
    first, second = memory_segments(2)
    for segment in (first, second):
        segment.share(table)
    assert first.register("/a") == second.ids["/a"]


def test_a_full_table_leaves_a_segment_its_own_labels() -> None:
    table = LabelTable(None, random_table_base())
    first, second = memory_segments(2)
    for number in range(TABLE_SLOTS):
        table.register(f"label {number}", Series("duration", f"{number}", Kind.NANOSECONDS))
    for segment in (first, second):
        segment.share(table)
        ids = [segment.id_of(f"own {number}") for number in range(fmt.LABEL_SLOTS)]
        assert ids == [segment.header.id_base + 1 + slot for slot in range(fmt.LABEL_SLOTS)]
        assert segment.id_of("one more") is None
        assert segment.id_of("own 5") == ids[5]
        assert segment.id_of("label 7") == table.ids["label 7"]
    assert "own 5" not in table.ids  # the other's would be a false name there


def test_a_segment_has_many_labels_when_a_quarter_of_its_table_is_full() -> None:
    (segment,) = memory_segments(1)
    for number in range(fmt.LABEL_SLOTS // 4):
        segment.register(f"label {number}")
    found = [segment.has_many_labels]
    segment.register("one more")
    found.append(segment.has_many_labels)
    segment.share(LabelTable(None, random_table_base()))
    assert [*found, segment.has_many_labels] == [False, True, False]


def test_the_limit_of_labels_holds_with_a_table() -> None:
    (made,) = memory_segments(1)
    segment = Segment(made.map, made.header, None, LabelLimit(3))
    table = LabelTable(None, random_table_base())
    segment.register("/0")
    segment.share(table)
    for number in range(100):
        segment.register(f"/{number}")
    assert set(table.ids) == {"/0", "/1", "/2", OTHER_LABELS}
