from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from aqltelemetry.journal import counters
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import LabelLimit, LabelTable, random_table_base
from aqltelemetry.journal.reader import Context, read_segment
from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import MAX_LABEL_BYTES, RESERVED, failed_label
from aqltelemetry.recording import recorder
from aqltelemetry.recording.recorder import Recording, record, time_block
from aqltelemetry.system.clock import Anchor
from fakes import FakeClock, ManualSource, memory_segments, recording

Rows = Callable[[], list[tuple[str, str, float]]]


@pytest.fixture
def segments() -> list[Segment]:
    return memory_segments(4)


@pytest.fixture
def on(segments: list[Segment]) -> Iterator[tuple[Recording, ManualSource]]:
    """Recording is on, into the first segment; the others follow."""
    session, source = recording(*segments)
    recorder.install(session)
    yield session, source
    recorder.remove(session)


@pytest.fixture
def recorded(segments: list[Segment]) -> Rows:
    """Return prefix, label and value of all that was recorded."""

    def rows() -> list[tuple[str, str, float]]:
        return [
            (column.series.prefix, column.series.label, value)
            for segment in segments
            for column in read_segment(
                segment.map[:], recovered=True, yield_gil=lambda: None
            ).batch.columns
            for value in column.values
        ]

    return rows


pytestmark = pytest.mark.usefixtures("on")


def test_a_block_is_recorded_with_its_exact_duration(clock: FakeClock, recorded: Rows) -> None:
    with time_block("db query"):
        clock.now_ns += 237_000_123
    assert recorded() == [("duration", "db query", 237_000_123)]


async def test_an_async_block_is_recorded_with_its_exact_duration(
    clock: FakeClock, recorded: Rows
) -> None:
    async with time_block("db query"):
        await asyncio.sleep(0)
        clock.now_ns += 5
    assert recorded() == [("duration", "db query", 5)]


async def test_entering_and_leaving_an_async_block_lets_nothing_else_run() -> None:
    ran = False

    def run() -> None:
        nonlocal ran
        ran = True

    asyncio.get_running_loop().call_soon(run)
    async with time_block("x"):
        pass
    assert not ran


def test_what_a_block_raises_passes_through_and_its_duration_is_kept(
    clock: FakeClock, recorded: Rows
) -> None:
    for error in (ValueError("x"), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()):
        with pytest.raises(type(error)) as caught, time_block("failing"):
            clock.now_ns += 7
            raise error
        assert caught.value is error
    assert [row for row in recorded() if row[1] == "failing"] == [("duration", "failing", 7)] * 4


class Misused:
    """Is no class, and pretends to be one."""

    __class__ = type  # type: ignore[assignment]


_FAILURES: tuple[BaseException, ...] = (
    *(ValueError("x"), TimeoutError(), OSError(), RuntimeError(), KeyError(1)),
    ExceptionGroup("several", [ValueError("x")]),
)
_NO_FAILURES: tuple[BaseException, ...] = (
    *(asyncio.CancelledError(), concurrent.futures.CancelledError(), GeneratorExit()),
    *(KeyboardInterrupt(), SystemExit(1), StopIteration(), StopAsyncIteration()),
    BaseExceptionGroup("several", [asyncio.CancelledError(), ValueError("x")]),
)


@pytest.mark.parametrize("error", [*_FAILURES, *_NO_FAILURES], ids=repr)
async def test_a_block_counts_as_failed_if_an_exception_ends_it_that_is_a_failure(
    clock: FakeClock, recorded: Rows, error: BaseException
) -> None:
    with pytest.raises(type(error)), ExitStack() as stack:
        stack.enter_context(time_block("sync"))
        clock.now_ns += 3
        raise error
    stack_ = AsyncExitStack()
    with pytest.raises(type(error)):
        async with stack_:
            await stack_.enter_async_context(time_block("async"))
            clock.now_ns += 5
            raise error
    failures = [("duration", "sync failed", 3), ("duration", "async failed", 5)]
    expected = [("duration", "sync", 3), ("duration", "async", 5)]
    expected += failures if error in _FAILURES else []
    assert sorted(recorded()) == sorted(expected)


def test_a_failed_block_is_recorded_twice_at_the_same_time(
    clock: FakeClock, segments: list[Segment]
) -> None:
    clock.step_ns = 7
    with pytest.raises(ValueError, match="x"), time_block("parse"):
        raise ValueError("x")
    batch = read_segment(segments[0].map[:], recovered=True, yield_gil=lambda: None).batch
    total, failed = batch.columns
    assert (total.series.label, failed.series.label) == ("parse", "parse failed")
    assert total.values[:] == failed.values[:]
    assert total.timepoints_ns[:] == failed.timepoints_ns[:]


def test_each_entry_of_a_shared_block_fails_by_itself(clock: FakeClock, recorded: Rows) -> None:
    block = time_block("nested")
    with block:
        with suppress(ValueError), block:
            clock.now_ns += 10
            raise ValueError
        with block:
            clock.now_ns += 100
    found = sorted((label, value) for _, label, value in recorded())
    assert found == [("nested", 10), ("nested", 100), ("nested", 110), ("nested failed", 10)]


def test_an_exception_within_a_block_that_does_not_end_it_is_no_failure(recorded: Rows) -> None:
    with time_block("tries"), suppress(ValueError):
        raise ValueError
    assert [label for _, label, _ in recorded()] == ["tries"]


@pytest.mark.parametrize("exc_type", [Misused(), MagicMock(spec=type), "ValueError", 5, int])
def test_what_is_no_exception_type_is_no_failure_and_raises_nothing(
    recorded: Rows, exc_type: Any
) -> None:
    block = time_block("by hand")
    block.__enter__()
    block.__exit__(exc_type, None, None)
    assert [label for _, label, _ in recorded()] == ["by hand"]


@pytest.mark.parametrize(
    "label", ["x" * 200, "x" * 194, "x" * 10_000, "é" * 150, "\ud800" * 40, 12]
)
def test_the_label_of_failures_follows_from_the_recorded_label_and_keeps_the_limit(
    label: str, recorded: Rows
) -> None:
    for text in (label, f"{label}y"):
        with suppress(ValueError), time_block(text):
            raise ValueError
    labels = [name for _, name, _ in recorded()]
    assert len(set(labels)) == 4
    assert labels[1] == failed_label(labels[0])
    assert labels[1].endswith(" failed")
    assert max(len(name.encode()) for name in labels) <= MAX_LABEL_BYTES


def test_failures_of_labels_beyond_the_limit_share_a_label_of_their_own() -> None:
    (made,) = memory_segments(1)
    segment = Segment(made.map, made.header, None, LabelLimit(2))
    session, _ = recording(segment)
    recorder.install(session)
    for number in range(3):
        with suppress(ValueError), time_block(f"label {number}"):
            raise ValueError
    recorder.remove(session)
    batch = read_segment(segment.map[:], recovered=True, yield_gil=lambda: None).batch
    assert {each.series.label: len(each.values) for each in batch.columns} == {
        "label 0": 1,
        "label 0 failed": 1,
        "other labels": 2,
        "other labels failed": 2,
    }


def test_a_failed_block_whose_label_has_no_text_is_dropped_twice(
    on: tuple[Recording, ManualSource],
) -> None:
    class Label:
        def __str__(self) -> str:
            raise ZeroDivisionError

    with suppress(ValueError), time_block(Label()):  # type: ignore[arg-type]
        raise ValueError
    assert on[0].drops == {counters.ERROR: 2}


def test_a_failed_block_that_was_entered_while_off_is_not_recorded(
    on: tuple[Recording, ManualSource], recorded: Rows
) -> None:
    recorder.remove(on[0])
    with suppress(ValueError), time_block("off"):
        recorder.install(on[0])
        raise ValueError
    assert recorded() == []


async def test_ten_thousand_doubly_cancelled_blocks_are_all_recorded(
    recorded: Rows, record_property: Callable[[str, object], None]
) -> None:
    async def work() -> None:
        async with time_block("cancelled"):
            await asyncio.sleep(3600)

    tasks = [asyncio.create_task(work()) for _ in range(10_000)]
    await asyncio.sleep(0)
    for _ in range(2):
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}
    assert len(recorded()) == 10_000
    record_property("runs", 10_000)
    record_property("got", "10,000 of 10,000")


def test_a_block_object_nested_in_itself_measures_each_entry(
    clock: FakeClock, recorded: Rows
) -> None:
    block = time_block("nested")
    with block:
        clock.now_ns += 1
        with block:
            clock.now_ns += 10
            with block:
                clock.now_ns += 100
        clock.now_ns += 1000
    assert [value for *_, value in recorded()] == [100, 110, 1111]


async def test_a_block_object_shared_by_overlapping_tasks_measures_each_entry(
    clock: FakeClock, recorded: Rows
) -> None:
    block = time_block("shared")
    leave = [asyncio.Event() for _ in range(3)]

    async def work(index: int) -> None:
        async with block:
            await leave[index].wait()

    tasks = []
    for index in range(3):  # entered at 0, 10, 20 ...
        tasks.append(asyncio.create_task(work(index)))
        await asyncio.sleep(0)
        clock.now_ns += 10
    for index in (1, 0, 2):  # ... and left at 30, 130, 230
        leave[index].set()
        await tasks[index]
        clock.now_ns += 100
    assert [value for *_, value in recorded()] == [20, 130, 210]


def test_a_block_object_shared_by_threads_measures_each_entry(
    clock: FakeClock, recorded: Rows
) -> None:
    block = time_block("shared")
    entered, leave = threading.Barrier(2), threading.Event()

    def work() -> None:
        with block:
            entered.wait()
            leave.wait()

    with block:
        clock.now_ns += 5
        thread = threading.Thread(target=work)
        thread.start()
        entered.wait()
        clock.now_ns += 1
    leave.set()
    thread.join()
    assert [value for *_, value in recorded()] == [6, 1]


def test_a_block_object_is_as_good_the_second_time(clock: FakeClock, recorded: Rows) -> None:
    block = time_block("again")
    for duration in (3, 4):
        with block:
            clock.now_ns += duration
    assert [value for *_, value in recorded()] == [3, 4]


async def test_blocks_work_on_exit_stacks(clock: FakeClock, recorded: Rows) -> None:
    with ExitStack() as stack:
        stack.enter_context(time_block("sync"))
        clock.now_ns += 1
    async with AsyncExitStack() as stack_:
        await stack_.enter_async_context(time_block("async"))
        clock.now_ns += 2
    assert recorded() == [("duration", "sync", 1), ("duration", "async", 2)]


async def test_a_block_in_an_abandoned_async_generator_is_recorded(
    clock: FakeClock, recorded: Rows
) -> None:
    async def items() -> object:
        async with time_block("streaming"):
            while True:
                clock.now_ns += 1
                yield 1

    generator = items()
    await anext(generator)  # type: ignore[call-overload]
    task = asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
    await task
    assert recorded() == [("duration", "streaming", 1)]


def test_values_are_recorded_under_their_prefix(recorded: Rows) -> None:
    record("queue length", 3)
    record("temperature", -12.5, prefix="weather")
    assert recorded() == [("custom", "queue length", 3.0), ("weather", "temperature", -12.5)]


class Odd:
    """A number whose value can't be read."""

    def __float__(self) -> float:
        raise ZeroDivisionError


_NO_NUMBERS: tuple[Any, ...] = ("3", None, b"3", 10**400, [], 1j, Odd())
_PREFIXES = (*RESERVED, "../x", "a.b", "", None, 5, ["list"])


@pytest.mark.parametrize(
    ("measurement", "prefix"),
    [
        *((value, "custom") for value in _NO_NUMBERS),
        *((1, prefix) for prefix in _PREFIXES),
    ],
)
def test_what_can_not_be_recorded_is_counted_and_raises_nothing(
    on: tuple[Recording, ManualSource], recorded: Rows, measurement: Any, prefix: Any
) -> None:
    # The usual names are known to the segment before, as in a process that has samplers.
    on[0].append(("runtime", "x"), 1)
    on[0].append(("stall", "x"), 1)
    recorder.append_duration("x", 1, 1)
    before = recorded()
    record("x", measurement, prefix)
    assert recorded() == before
    assert on[0].drops == {counters.INVALID: 1}


@pytest.mark.parametrize(
    ("measurement", "value"),
    [
        *((2**70, 2.0**70), (-(2**63), -(2.0**63)), (True, 1.0), (Decimal("1.5"), 1.5)),
        *((Fraction(1, 4), 0.25), (math.inf, math.inf), (-math.inf, -math.inf)),
        *((np.float32(0.5), 0.5), (np.int64(7), 7.0), (np.bool_(True), 1.0), (5e-324, 5e-324)),
    ],
)
def test_numbers_of_every_type_are_recorded(recorded: Rows, measurement: Any, value: float) -> None:
    record("x", measurement)
    assert recorded() == [("custom", "x", value)]


def test_what_is_not_a_number_by_ieee_754_is_recorded_as_that(recorded: Rows) -> None:
    record("x", math.nan)
    ((_, _, value),) = recorded()
    assert math.isnan(value)


def test_samplers_may_record_under_the_runtime_prefix(
    on: tuple[Recording, ManualSource], segments: list[Segment], recorded: Rows
) -> None:
    segments[0].share(LabelTable(None, random_table_base()))
    for number in range(3):
        on[0].append(("runtime", "rss"), number)
        on[0].append(("queue", "length"), number)
    assert on[0].drops == {}
    assert segments[0].taken == 6


def test_each_reason_for_drops_is_logged_once_with_its_first_observation(
    on: tuple[Recording, ManualSource],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(3):
        record(f"price {number}", "12", "shop")  # type: ignore[arg-type]
    record("x", 1, "duration")
    assert caplog.records == []  # the application's thread logs nothing
    on[0].log_drops()
    on[0].log_drops()
    (line,) = caplog.messages
    assert line.startswith(
        "an observation was dropped (invalid): shop 'price 0': str is no number, or is too large;"
    )
    monkeypatch.delattr(Segment, "id_of")
    record("x", 1, "new")
    on[0].log_drops()
    assert "dropped (error): new 'x': 'Segment' object has no attribute 'id_of'" in caplog.text
    assert on[0].drops == {counters.INVALID: 4, counters.ERROR: 1}


def test_a_prefix_that_is_refused_is_named_in_the_log(
    on: tuple[Recording, ManualSource], caplog: pytest.LogCaptureFixture
) -> None:
    record("p", 1, "duration")
    on[0].log_drops()
    assert "duration 'p': prefix='duration': must be 1 to 40 letters" in caplog.text


def test_a_label_that_cannot_be_printed_is_dropped_and_logged(
    on: tuple[Recording, ManualSource], caplog: pytest.LogCaptureFixture
) -> None:
    class Label:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    with time_block(Label()):  # type: ignore[arg-type]
        pass
    on[0].log_drops()
    assert "without a printable name (ZeroDivisionError)" in caplog.text


@pytest.mark.parametrize("label", [None, 12, b"x", ["list"], "\ud800", "x" * 10_000])
def test_any_label_is_recorded(label: str, recorded: Rows) -> None:
    with time_block(label):
        pass
    record(label, 1)
    assert len(recorded()) == 2


def test_recording_goes_on_in_the_next_segment(
    on: tuple[Recording, ManualSource], segments: list[Segment], recorded: Rows
) -> None:
    count = segments[0].capacity + 10
    for number in range(count):
        recorder.append_duration("x", number, number)
    assert [value for *_, value in recorded()] == list(range(count))
    assert [segment.taken for segment in segments] == [count - 10, 10, 0, 0]
    assert on[1].woken == 1


def test_more_labels_than_a_segment_holds_go_on_in_the_next(recorded: Rows) -> None:
    for number in range(2 * fmt.LABEL_SLOTS):
        recorder.append_duration(f"label {number}", 1, 1)
    assert len({label for _, label, _ in recorded()}) == 2 * fmt.LABEL_SLOTS


def test_without_a_next_segment_what_is_newest_is_dropped_and_counted(
    on: tuple[Recording, ManualSource], segments: list[Segment], recorded: Rows
) -> None:
    room = sum(segment.capacity for segment in segments)
    for number in range(room + 25):
        recorder.append_duration("x", number, number)
    assert on[0].drops == {counters.NO_SEGMENT: 25}
    assert [value for *_, value in recorded()] == list(range(room))


def test_a_fault_in_aqltelemetry_is_swallowed_and_counted(
    on: tuple[Recording, ManualSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Segment, "id_of")
    with time_block("x"):
        pass
    assert on[0].drops == {counters.ERROR: 1}


def test_eight_threads_lose_and_repeat_nothing(recorded: Rows) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work(name: str) -> None:
        for number in range(10_000):
            recorder.append_duration(name, 1, number)

    threads = [threading.Thread(target=work, args=(f"t{index}",)) for index in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    rows = recorded()
    assert len(rows) == 80_000
    assert len(set(rows)) == 80_000


def test_collector_callbacks_record_during_records(recorded: Rows) -> None:
    class Node:
        """An object that the collector counts when it is made."""

    calls = 0

    def callback(phase: str, info: object) -> None:
        nonlocal calls
        calls += 1
        record("collection " + phase, 1)

    threshold = gc.get_threshold()
    gc.callbacks.append(callback)
    gc.set_threshold(5)
    try:
        for _ in range(2_000):
            with time_block("block"):
                [Node() for _ in range(20)]
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(callback)
    labels = [label for _, label, _ in recorded()]
    assert labels.count("block") == 2_000
    assert calls > 1_000
    assert labels.count("collection start") + labels.count("collection stop") == calls


def test_signal_handlers_record_during_records(recorded: Rows) -> None:
    received = 0

    def handler(number: int, frame: object) -> None:
        nonlocal received
        received += 1
        record("signal", received)

    before = signal.signal(signal.SIGVTALRM, handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1e-4, 1e-4)
    blocks = 0
    try:
        while received < 20:
            with time_block("block"):
                blocks += 1
            sum(range(100))  # or the segments would be full before the last signal
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    labels = [label for _, label, _ in recorded()]
    assert labels.count("block") == blocks
    assert labels.count("signal") == received


def test_objects_record_as_they_die(recorded: Rows) -> None:
    class Dying:
        def __del__(self) -> None:
            record("death", 1)

    for _ in range(100):
        with time_block("block"):
            Dying()
    labels = [label for _, label, _ in recorded()]
    assert (labels.count("block"), labels.count("death")) == (100, 100)


def test_an_anchor_ahead_turns_later_records_into_later_timepoints(
    on: tuple[Recording, ManualSource], segments: list[Segment]
) -> None:
    recorder.append_duration("x", 10, 1)
    on[0].renew(Anchor(20, on[0].anchor.offset_ns + 1_000))
    recorder.append_duration("x", 30, 1)
    (column,) = read_segment(
        segments[0].map[:], recovered=False, yield_gil=lambda: None
    ).batch.columns
    before, after = column.timepoints_ns
    assert after - before == 1_020


def test_a_segment_full_of_anchors_is_followed_by_another(
    on: tuple[Recording, ManualSource], segments: list[Segment]
) -> None:
    for second in range(400):
        on[0].renew(Anchor(second, 5))
    recorder.append_duration("x", 1_000, 1)
    assert segments[0].taken == 0
    assert sum(segment.taken for segment in segments) == 1


class TestOff:
    def test_nothing_is_recorded_and_no_clock_read(
        self, on: tuple[Recording, ManualSource], recorded: Rows, clock: FakeClock
    ) -> None:
        recorder.remove(on[0])
        clock.step_ns = 1
        with time_block("x"):
            record("y", 1)
        recorder.append_duration("z", 1, 1)
        assert recorded() == []
        assert not recorder.is_on()

    def test_a_block_entered_while_off_is_not_recorded(
        self, on: tuple[Recording, ManualSource], recorded: Rows
    ) -> None:
        recorder.remove(on[0])
        with time_block("x"):
            recorder.install(on[0])
        assert recorded() == []

    def test_a_block_left_while_off_is_not_recorded(
        self, on: tuple[Recording, ManualSource], recorded: Rows
    ) -> None:
        with time_block("x"):
            recorder.remove(on[0])
        assert recorded() == []

    def test_a_thread_late_in_advancing_does_not_switch_it_on_again(
        self, on: tuple[Recording, ManualSource], segments: list[Segment]
    ) -> None:
        recorder.remove(on[0])
        on[0].advance(segments[0])
        assert not recorder.is_on()

    def test_a_thread_late_from_an_earlier_recording_leaves_the_new_one_alone(
        self, on: tuple[Recording, ManualSource], segments: list[Segment]
    ) -> None:
        (other,) = memory_segments(1)
        newer, _ = recording(other)
        recorder.install(newer)
        on[0].advance(segments[0])
        with time_block("x"):
            pass
        recorder.remove(newer)
        assert other.taken == 1

    def test_removing_what_is_not_on_changes_nothing(
        self, on: tuple[Recording, ManualSource]
    ) -> None:
        newer, _ = recording(*memory_segments(1))
        recorder.remove(newer)
        assert recorder.is_on()


def test_a_segment_with_many_labels_has_a_table_asked_for(
    on: tuple[Recording, ManualSource], segments: list[Segment]
) -> None:
    for number in range(fmt.LABEL_SLOTS // 4):
        record(f"label {number}", 1.0)
    assert on[1].tables_wanted == 0
    record("one more", 1.0)
    record("and one more", 1.0)
    assert on[1].tables_wanted == 2
    segments[0].share(LabelTable(None, random_table_base()))
    record("not again", 1.0)
    assert on[1].tables_wanted == 2


def test_a_table_may_be_shared_while_a_segment_is_recorded_to(
    segments: list[Segment],
) -> None:
    """By any thread, at any moment: each record is under its label all the same."""
    table = LabelTable(None, random_table_base())
    begun = threading.Event()

    def work() -> None:
        for number in range(20_000):
            record(f"label {number % 900}", number)
            if number == 1_000:
                begun.set()

    thread = threading.Thread(target=work)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        assert begun.wait(60)
        segments[0].share(table)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    reading = read_segment(
        segments[0].map[:],
        recovered=True,
        context=Context(labels=table.labels),
        yield_gil=lambda: None,
    )
    assert (reading.records, reading.damaged) == (20_000, 0)
    assert len(reading.batch.columns) == 900
    for column in reading.batch.columns:
        assert {f"label {int(value) % 900}" for value in column.values} == {column.series.label}


def test_keys_that_come_to_one_label_are_one_series_of_a_table(
    segments: list[Segment],
) -> None:
    table = LabelTable(None, random_table_base())
    segments[0].share(table)
    for _ in range(2):
        for label in ("a\nb", r"a\nb"):
            record(label, 1.0)
    assert len(table.labels.series) == 1
    assert len(table.ids) == 2


def test_an_observation_made_while_a_recording_is_replaced_goes_into_the_new_one() -> None:
    old_segment, new_segment = memory_segments(2)
    old, _ = recording(old_segment)
    new, _ = recording(new_segment)
    recorder.install(old)
    recorder.install(new)
    late = ("custom", "late"), 1, 2.0, fmt.VALUE_LAYOUT
    # It was made when the old one was on.
    assert old.append_slowly(*late) is recorder._REPLACED
    assert new.append_slowly(*late) is None
    recorder.remove(new)
    read = read_segment(new_segment.map[:], recovered=True, yield_gil=lambda: None)
    assert [column.series.label for column in read.batch.columns] == ["late"]
    assert (old_segment.taken, old.drops, new.drops) == (0, {}, {})
