from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from aqltelemetry.errors import DeliveryError
from aqltelemetry.journal.reader import Reading
from aqltelemetry.journal.sealed import SealedSegment, seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.observation import Batch, SegmentId
from aqltelemetry.recording import recorder
from aqltelemetry.recording.recorder import record
from aqltelemetry.runtime import delivery as delivery_module
from aqltelemetry.runtime.delivery import Delivery, Flush, SegmentQueue, read_sealed
from aqltelemetry.system.threads import WorkerThread
from fakes import MemorySink, memory_segments, recording, writer_options

Released = list[tuple[SealedSegment, int | None]]


class FlushingSink(MemorySink):
    """Keeps what it took at a flush only; `flushes` counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.flushes = 0

    async def write(self, batch: Batch) -> list[SegmentId]:
        await super().write(batch)
        return []

    async def flush(self) -> list[SegmentId]:
        self.flushes += 1
        return [batch.segment for batch in self.batches]


def _sealed(segment: Segment, count: int = 3) -> SealedSegment:
    session, _ = recording(segment)
    recorder.install(session)
    for number in range(count):
        record("x", float(number))
    recorder.remove(session)
    return seal(segment)


def _in_memory(count: int) -> list[SealedSegment]:
    return [_sealed(segment) for segment in memory_segments(count)]


@asynccontextmanager
async def _delivering(
    thread: WorkerThread, *sinks: MemorySink, max_age_s: float = 3600.0
) -> AsyncIterator[tuple[Delivery, Released]]:
    released: Released = []
    delivery = _new_delivery(thread, sinks, released, max_age_s)
    task = asyncio.create_task(delivery.run())
    yield delivery, released
    await _flush_and_end(delivery, task)


def _new_delivery(
    thread: WorkerThread,
    sinks: Sequence[MemorySink],
    released: Released,
    max_age_s: float = 3600.0,
    is_full: Callable[[], bool] = lambda: False,
) -> Delivery:
    queue = SegmentQueue(asyncio.get_running_loop(), sinks)
    return Delivery(queue, thread, lambda *each: released.append(each), max_age_s, is_full)


async def _flush(delivery: Delivery) -> None:
    flush = Flush()
    delivery.queue.put(flush)
    await flush.done


async def _flush_and_end(delivery: Delivery, task: asyncio.Task[None]) -> None:
    await _flush(delivery)
    task.cancel()
    await asyncio.wait([task])


async def test_a_segment_goes_through_the_queue_to_every_sink(thread: WorkerThread) -> None:
    sinks = (MemorySink(), MemorySink())
    (sealed,) = _in_memory(1)
    async with _delivering(thread, *sinks) as (delivery, released):
        delivery.queue.items.put_nowait(sealed)
        await _flush(delivery)
        for sink in sinks:
            assert sink.rows() == [("custom", "x", 0.0), ("custom", "x", 1.0), ("custom", "x", 2.0)]
        assert released == [(sealed, 3)]
        assert delivery.depth == 0


async def test_a_segment_is_released_when_the_last_sink_keeps_it(thread: WorkerThread) -> None:
    quick, slow = MemorySink(), FlushingSink()
    (sealed,) = _in_memory(1)
    released: Released = []
    delivery = _new_delivery(thread, (quick, slow), released)
    delivery.queue.items.put_nowait(sealed)
    task = asyncio.create_task(delivery.run())
    while not slow.batches:
        await asyncio.sleep(0)
    assert released == []
    assert delivery.depth == 1
    await _flush_and_end(delivery, task)
    assert released == [(sealed, 3)]


async def test_a_sink_is_flushed_at_the_age_of_what_it_took(thread: WorkerThread) -> None:
    sink = FlushingSink()
    async with _delivering(thread, sink, max_age_s=0.001) as (delivery, released):
        delivery.queue.items.put_nowait(_in_memory(1)[0])
        async with asyncio.timeout(10):
            while not released:
                await asyncio.sleep(0)
        assert sink.flushes == 1


async def test_a_segment_of_a_dead_process_is_flushed_at_once(
    thread: WorkerThread, tmp_path: Path
) -> None:
    writer = Writer.in_journal(tmp_path, writer_options())
    left = _sealed(writer.new_segment())
    assert left.path is not None
    orphan = SealedSegment(left.id, left.path)
    sink = FlushingSink()
    async with _delivering(thread, sink) as (delivery, released):
        delivery.queue.items.put_nowait(orphan)
        async with asyncio.timeout(10):
            while not released:
                await asyncio.sleep(0)
        assert sink.batches[0].recovered
    writer.close()


async def test_a_sink_that_fails_is_given_everything_again(thread: WorkerThread) -> None:
    sink = MemorySink()
    sink.failures = [OSError("no space"), ValueError("what?")]
    first, second = _in_memory(2)
    async with _delivering(thread, sink) as (delivery, released):
        delivery.queue.items.put_nowait(first)
        delivery.queue.items.put_nowait(second)
        for _ in range(3):
            await _flush(delivery)  # tries at once, not after a pause
        assert [batch.segment for batch in sink.batches] == [first.id, second.id]
        assert [each for each, _ in released] == [first, second]
        assert delivery.queue.cursors[0].errors == 2


async def test_a_failing_sink_does_not_hinder_another(thread: WorkerThread) -> None:
    bad, good = MemorySink(), MemorySink()
    bad.failures = [OSError("down") for _ in range(100)]
    (sealed,) = _in_memory(1)
    async with _delivering(thread, bad, good) as (delivery, released):
        delivery.queue.items.put_nowait(sealed)
        await _flush(delivery)
        assert len(good.rows()) == 3
        assert released == []
        assert delivery.depth == 1


async def test_a_failed_sink_is_tried_again_after_its_pause(
    thread: WorkerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqltelemetry.runtime.sink_cursor._FIRST_RETRY_S", 0.001)
    sink = MemorySink()
    sink.failures = [OSError("down")]
    async with _delivering(thread, sink) as (delivery, released):
        delivery.queue.items.put_nowait(_in_memory(1)[0])
        async with asyncio.timeout(10):
            while not released:
                await asyncio.sleep(0)


async def test_a_segment_whose_file_is_gone_is_released_unread(
    thread: WorkerThread, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer.in_journal(tmp_path, writer_options())
    gone, there = (_sealed(writer.new_segment()) for _ in range(2))
    gone.read()  # as for a sink that failed before
    gone.discard()
    sink = MemorySink()
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        async with _delivering(thread, sink) as (delivery, released):
            delivery.queue.items.put_nowait(gone)
            delivery.queue.items.put_nowait(there)
            await _flush(delivery)
            assert released == [(gone, None), (there, 3)]
    assert "can't be read" in caplog.text
    there.discard()
    writer.close()


async def test_a_flush_is_settled_after_everything_before_it(thread: WorkerThread) -> None:
    sink = FlushingSink()
    segments = _in_memory(5)
    async with _delivering(thread, sink) as (delivery, released):
        for sealed in segments:
            delivery.queue.items.put_nowait(sealed)
        await _flush(delivery)
        assert [each for each, _ in released] == segments


async def test_an_abandoned_flush_does_no_harm(thread: WorkerThread) -> None:
    async with _delivering(thread, MemorySink()) as (delivery, _):
        given_up = Flush()
        given_up.done.cancel()
        delivery.queue.items.put_nowait(given_up)
        await _flush(delivery)


def test_a_record_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    recorder.install(session)
    record("x", 1.0)
    at = next(segment.slots)  # a thread is stopped here, before its store
    recorder.remove(session)
    record_bytes = segment.map[at - 24 : at]
    sealed = seal(segment)
    waits: list[float] = []

    def come_late(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            segment.map[at : at + 24] = record_bytes

    monkeypatch.setattr(delivery_module, "pause", come_late)
    assert read_sealed(sealed).records == 2
    assert len(waits) == 3


def test_a_record_that_never_comes_is_waited_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    recorder.install(session)
    record("x", 1.0)
    next(segment.slots)
    recorder.remove(session)
    waits: list[float] = []
    monkeypatch.setattr(delivery_module, "pause", waits.append)
    assert read_sealed(seal(segment)).records == 1
    assert sum(waits) == pytest.approx(1.0)


class HungSink(MemorySink):
    """Takes nothing."""

    async def write(self, batch: Batch) -> list[SegmentId]:
        msg = "hung"
        raise OSError(msg)


async def test_delivery_is_behind_while_several_segments_wait_in_the_queue_or_for_a_sink(
    thread: WorkerThread,
) -> None:
    delivery = _new_delivery(thread, [HungSink()], [])
    for number, sealed in enumerate(_in_memory(5)):
        assert delivery.queue.is_behind() == (number >= 4)
        delivery.queue.items.put_nowait(sealed)
    task = asyncio.create_task(delivery.run())
    await _flush_and_end(delivery, task)
    assert delivery.queue.items.empty()
    assert delivery.queue.is_behind()


class CumulativeSink(MemorySink):
    """Returns all segments that it has kept so far from each call, as the protocol permits."""

    async def write(self, batch: Batch) -> list[SegmentId]:
        await super().write(batch)
        return await self.flush()

    async def flush(self) -> list[SegmentId]:
        return [batch.segment for batch in self.batches]


@pytest.mark.parametrize("order", [0, 1])
async def test_a_sink_that_names_segments_repeatedly_releases_nothing_for_another(
    thread: WorkerThread, order: int
) -> None:
    sinks = [CumulativeSink(), FlushingSink()]
    slow = sinks[1]
    segments = _in_memory(5)
    released: Released = []
    delivery = _new_delivery(thread, sinks[order:] + sinks[:order], released)
    for sealed in segments:
        delivery.queue.items.put_nowait(sealed)
    task = asyncio.create_task(delivery.run())
    while len(slow.batches) < len(segments):
        await asyncio.sleep(0)
    assert (released, delivery.depth) == ([], len(segments))
    await _flush_and_end(delivery, task)
    assert released == [(sealed, 3) for sealed in segments]


async def test_one_sink_of_three_that_returns_nothing_keeps_segments_in_the_journal(
    thread: WorkerThread,
) -> None:
    class SilentSink(MemorySink):
        async def write(self, batch: Batch) -> None:  # type: ignore[override]
            await super().write(batch)

    silent = SilentSink()
    async with _delivering(thread, CumulativeSink(), silent, MemorySink()) as (delivery, released):
        for sealed in _in_memory(3):
            delivery.queue.items.put_nowait(sealed)
        for _ in range(3):
            await _flush(delivery)
        assert released == []
        assert len(silent.batches) == 3


async def test_an_error_outside_of_sinks_is_counted_and_delivery_tries_again(
    thread: WorkerThread, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "_PAUSE_S", 0.0)
    faults = [RuntimeError("what?"), RuntimeError("again"), KeyError("x")]

    def is_full() -> bool:
        if faults:
            raise faults.pop()
        return False

    sink = MemorySink()
    released: Released = []
    delivery = _new_delivery(thread, [sink], released, is_full=is_full)
    task = asyncio.create_task(delivery.run())
    segments = _in_memory(4)
    for sealed in segments:
        delivery.queue.items.put_nowait(sealed)
    await _flush_and_end(delivery, task)
    assert [each for each, _ in released] == segments
    assert (delivery.errors, delivery.sink_errors) == (3, 3)
    assert len([each for each in caplog.records if "delivery" in each.message]) == 2


async def test_a_flush_raises_what_delivery_failed_on(
    thread: WorkerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "_PAUSE_S", 0.0)
    async with _delivering(thread, MemorySink()) as (delivery, released):
        with monkeypatch.context() as patch:
            patch.setattr(delivery, "_serve", None)
            with pytest.raises(DeliveryError, match="NoneType"):
                await _flush(delivery)
        delivery.queue.items.put_nowait(_in_memory(1)[0])
        await _flush(delivery)
        assert len(released) == 1


async def test_the_cancellation_of_a_task_that_a_sink_awaits_is_an_error_of_the_sink(
    thread: WorkerThread,
) -> None:
    class AwaitingSink(MemorySink):
        async def write(self, batch: Batch) -> list[SegmentId]:
            if not self.failures:
                self.failures.append(ValueError())
                other = asyncio.get_running_loop().create_future()
                other.cancel()
                await other
            self.failures = []
            await super().write(batch)
            return [batch.segment]

    sink = AwaitingSink()
    async with _delivering(thread, sink) as (delivery, released):
        delivery.queue.items.put_nowait(_in_memory(1)[0])
        await _flush(delivery)
        sink.failures = [ValueError()]
        await _flush(delivery)
        assert len(released) == 1
        assert delivery.sink_errors == 1


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancelled_delivery_continues_where_it_was(
    thread: WorkerThread, turns: int
) -> None:
    sinks = (FlushingSink(), MemorySink())
    segments = _in_memory(3)
    released: Released = []
    delivery = _new_delivery(thread, sinks, released)
    for sealed in segments:
        delivery.queue.items.put_nowait(sealed)
    task = asyncio.create_task(delivery.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    task = asyncio.create_task(delivery.run())
    await _flush_and_end(delivery, task)
    assert [each for each, _ in released] == segments
    assert delivery.depth == 0


async def test_a_delivery_that_is_cancelled_while_it_reads_gives_a_sink_nothing_twice(
    thread: WorkerThread,
) -> None:
    """The sink keeps what it has taken, since no call of it was cancelled."""
    sink = FlushingSink()
    segments = _in_memory(2)
    released: Released = []
    delivery = _new_delivery(thread, (sink,), released)
    task = asyncio.create_task(delivery.run())
    delivery.queue.items.put_nowait(segments[0])
    while not sink.batches:
        await asyncio.sleep(0)
    gate: SimpleQueue[None] = SimpleQueue()
    thread.post(gate.get)
    delivery.queue.items.put_nowait(segments[1])
    while delivery.queue.items.qsize():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    gate.put(None)
    task = asyncio.create_task(delivery.run())
    await _flush_and_end(delivery, task)
    assert [batch.segment for batch in sink.batches] == [sealed.id for sealed in segments]
    assert [each for each, _ in released] == segments


async def test_a_segment_that_can_not_be_read_for_a_moment_is_no_reason_to_give_others_again(
    thread: WorkerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FlushingSink()
    segments = _in_memory(2)

    def fail(sealed: SealedSegment) -> Reading:
        raise OSError(errno.EIO, f"segment {sealed.id} can't be read now")

    async with _delivering(thread, sink) as (delivery, released):
        delivery.queue.items.put_nowait(segments[0])
        while not sink.batches:
            await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            patch.setattr(delivery_module, "read_sealed", fail)
            delivery.queue.items.put_nowait(segments[1])
            while not delivery.sink_errors:
                await asyncio.sleep(0)
        await _flush(delivery)
        assert [batch.segment for batch in sink.batches] == [sealed.id for sealed in segments]
        assert [each for each, _ in released] == segments
