"""One recording from its start to its end: tasks, order of stopping, account."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from aqltelemetry.errors import DeliveryError, StateError
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.protocols import Attached, Sampler
from aqltelemetry.recording import recorder
from aqltelemetry.recording.forked_child import ChildFeeder
from aqltelemetry.recording.segment_pool import Keeper
from aqltelemetry.recording.stats import Stats
from aqltelemetry.runtime.control_task import ControlTask
from aqltelemetry.runtime.delivery import Delivery, Flush
from aqltelemetry.runtime.parts import Parts
from aqltelemetry.runtime.recovery import Recovery, warn_of_children
from aqltelemetry.runtime.schedule import Schedule, cancel, within
from aqltelemetry.system.clock import CLOCK_STEP_NS, NS_PER_S, follow, read_anchor
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import NativeFuture, WorkerThread

if TYPE_CHECKING:
    from aqltelemetry.runtime.profiler import Profiler

_HEARTBEAT_S = 1.0
_CLOCK_STEP = ("runtime", "telemetry clock step")
_LAST_SAMPLE_SHARE = 0.2
_END_S = 0.1
_R = TypeVar("_R")


class Session:
    """Records from `open` to `close`, on the event loop it was opened on."""

    def __init__(self, parts: Parts, make_profiler: Callable[[str, float], Profiler]) -> None:
        self._parts = parts
        self._make_profiler = make_profiler
        self._loop = asyncio.get_running_loop()
        self._delivery = Delivery(
            parts.sinks, parts.sink_thread, self._release, parts.max_age_s, self._is_journal_full
        )
        self._recovery = Recovery(parts.journal_roots, self._hand_on)
        self._schedules: list[Schedule] = []
        # What a failed start takes back: on the keeper's thread, and on the event loop.
        self._undo_journal = ExitStack()
        self._undo_journal.callback(parts.place.close)
        self._attached: list[Attached] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin to record; whatever it raises, nothing is left on."""
        with ExitStack() as undo:
            # Posted behind the beginning, which the cancellation of this does not end.
            undo.callback(self._end_threads)
            undo.callback(self._parts.journal_thread.post, self._undo_journal.close)
            await self._on_journal_thread(self._begin)
            undo.callback(self._switch_off)
            if not self._control.is_off:
                recorder.install(self._recording)
            for sampler in self._parts.samplers:
                self._take_on(sampler)
            undo.callback(self._cancel_tasks)
            self._delivering = self._start(self._delivery.run())
            self._tasks.append(self._delivering)
            for work in (
                self._heartbeat,
                self._tend_journal,
                self._control.run,
                *(schedule.run for schedule in self._schedules),
            ):
                self._tasks.append(self._start(work()))
            self._tasks.remove(self._delivering)
            undo.pop_all()

    def _begin(self) -> None:
        parts = self._parts
        self._writer = parts.place.writer
        self._keeper = Keeper(
            parts.journal_thread,
            self._writer,
            self._hand_on,
            parts.journal_bytes,
            lambda: self._delivery.is_behind,
        )
        self._undo_journal.callback(self._keeper.close)
        anchor = read_anchor()
        self._recording = self._keeper.open(parts.place.take_first(), anchor)
        control = ControlTask(
            parts.controls, self._writer.name, self._recording, self._make_profiler
        )
        self._control = control
        self._undo_journal.callback(control.end)
        control.begin()

    @property
    def journal_thread(self) -> WorkerThread:
        """The thread that works on the journal."""
        return self._parts.journal_thread

    @property
    def is_usable(self) -> bool:
        """Whether the event loop is still there and the delivery at work."""
        return not self._loop.is_closed() and not self._delivering.done()

    def check_loop(self) -> None:
        """Raise StateError on another event loop than the recording's."""
        if asyncio.get_running_loop() is not self._loop:
            msg = "the monitor was started on another event loop: use it there"
            raise StateError(msg)

    async def await_there(self, work: Callable[[], Coroutine[Any, Any, _R]]) -> _R:
        """Await something on the recording's event loop, from whichever."""
        if asyncio.get_running_loop() is self._loop:
            return await work()
        done: Future[asyncio.Task[_R]] = NativeFuture()
        self._loop.call_soon_threadsafe(
            lambda: self._start(work()).add_done_callback(done.set_result)
        )
        return (await asyncio.wrap_future(done)).result()

    async def flush(self) -> None:
        """Have all recorded before this kept by the sinks; raises DeliveryError where it is not."""
        await self._flush(last=False)

    async def close(self, timeout_s: float) -> bool:
        """End the recording; say whether all of it was published within the time."""
        deadline_s = self._loop.time() + timeout_s
        published = False
        try:
            await cancel(*self._tasks)
            async with within(self._loop.time() + timeout_s * _LAST_SAMPLE_SHARE):
                await self.sample()
            self._switch_off()
            async with within(deadline_s):
                await self._try_to_flush(last=True)
                published = self._delivery.depth == 0
            async with within(deadline_s - (deadline_s - self._loop.time()) * _LAST_SAMPLE_SHARE):
                await self._recover_last()
            await cancel(self._delivering)
            async with within(deadline_s):
                for sink in self._parts.sinks:
                    await sink.close()
        finally:
            self._switch_off()
            ended = self._end()
        async with within(deadline_s):
            await asyncio.shield(asyncio.wrap_future(ended))
        return published

    async def sample(self) -> None:
        """Take a sample of each series now."""
        await asyncio.gather(*(schedule.sample() for schedule in self._schedules))

    def resume(self) -> None:
        """Record again, after another session that was opened meanwhile and has failed."""
        if not self._control.is_off:
            recorder.install(self._recording)

    def abandon(self) -> None:
        """Leave everything to recovery, since the event loop is gone."""
        self._switch_off()
        with suppress(TimeoutError):
            self._end().result(_END_S)

    def abandon_in_child(self) -> ChildFeeder:
        """Leave everything to the parent; return what feeds a recording of the child's own."""
        self._detach()
        self._writer.abandon_in_child()
        self._recovery.close()
        return ChildFeeder(self._parts.place.new_writer)

    def stats(self) -> Stats:
        """Return the account of the recording at this moment."""
        account = self._keeper.account()
        dropped = Counter(self._recording.drops)
        dropped.update(account.lost)
        return Stats(
            recorded=account.published + account.in_journal + dropped.total(),
            published=account.published,
            in_journal=account.in_journal,
            dropped=MappingProxyType(dropped),
            recovered=self._recovery.records,
            journal_bytes=account.journal_bytes,
            is_crash_proof=self._writer.path is not None,
            is_off=self._control.is_off,
            queue_depth=self._delivery.depth,
            write_s=self._delivery.write_ns / NS_PER_S,
            sampler_errors=sum(schedule.errors for schedule in self._schedules),
            sink_errors=self._delivery.sink_errors,
            missed_ticks=sum(schedule.missed for schedule in self._schedules),
            retention_errors=self._parts.retention.errors,
        )

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            last, measured = self._recording.anchor, read_anchor()
            self._recording.renew(follow(last, measured))
            if abs(step_ns := measured.offset_ns - last.offset_ns) > CLOCK_STEP_NS:
                self._recording.append(_CLOCK_STEP, step_ns / NS_PER_S)
            self._keeper.wake()
            self._parts.journal_thread.post(self._recording.log_drops)

    async def _tend_journal(self) -> None:
        while True:
            self._parts.journal_thread.post(self._recovery.scan)
            await asyncio.sleep(self._parts.flush_interval_s)
            self._parts.journal_thread.post(partial(self._keeper.seal, self._delivery.quiet_s))

    async def _flush(self, *, last: bool) -> None:
        if self._delivering.done():
            # Who cancels all tasks of the loop cancels ours too.
            log.warning("delivery to the sinks was cancelled, and begins again")
            self._delivering = self._start(self._delivery.run())
        flush = Flush()

        def hand_on() -> None:
            if last:
                self._keeper.close()
            else:
                self._keeper.seal()
            self._hand_on(flush)

        await self._on_journal_thread(hand_on)
        await asyncio.wait((flush.done, self._delivering), return_when=asyncio.FIRST_COMPLETED)
        await self._on_journal_thread(int)  # what was released before this is discarded now
        if not flush.done.done():
            raise DeliveryError(asyncio.CancelledError("the delivery was cancelled"))
        flush.done.result()

    async def _try_to_flush(self, *, last: bool) -> None:
        try:
            await self._flush(last=last)
        except DeliveryError as exc:
            log.error("%s", exc)

    async def _recover_last(self) -> None:
        """Publish what ended processes left: children of this one, most of all."""
        while await self._on_journal_thread(self._recovery.scan_last):
            await self._try_to_flush(last=False)
        await self._on_journal_thread(lambda: warn_of_children(self._parts.journal_roots))

    def _take_on(self, sampler: Sampler) -> None:
        interval_s = sampler.interval_s or self._parts.interval_s
        self._schedules.append(Schedule(sampler, interval_s, self._recording.append))
        if isinstance(sampler, Attached):
            append, prefix = self._recording.append, sampler.prefix
            self._attached.append(sampler)  # before: it may fail half way
            sampler.attach(lambda label, value: append((prefix, label), value))

    def _switch_off(self) -> None:
        self._detach()
        recorder.remove(self._recording)

    def _detach(self) -> None:
        for sampler in self._attached:
            try:
                sampler.detach()
            except Exception:  # noqa: BLE001 - as of a sample
                log.exception("sampler %r can't be detached", sampler)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _end_threads(self) -> None:
        for thread in (self._parts.journal_thread, self._parts.sink_thread):
            thread.shutdown(wait=False)

    def _hand_on(self, item: SealedSegment | Flush) -> None:
        # Where the loop is closed, the item stays in the journal.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._delivery.queue.put_nowait, item)

    def _is_journal_full(self) -> bool:
        """Say whether it is time to make room, before the limit is met."""
        return self._keeper.account().journal_bytes > self._parts.journal_bytes // 2

    def _release(self, sealed: SealedSegment, records: int | None) -> None:
        owner = self._recovery.release if sealed.recovered else self._keeper.discard
        self._parts.journal_thread.post(lambda: owner(sealed, records))

    def _end(self) -> Future[None]:
        """Let go of the journal and end the threads, once they have done what they have to.

        While the sinks' thread may still publish, nobody else must get its segments.
        """
        ended: Future[None] = NativeFuture()

        def let_go() -> None:
            self._recording.log_drops()
            self._keeper.close()
            self._recovery.close()
            self._writer.close()
            self._control.end()
            ended.set_result(None)

        def last() -> None:
            self._parts.journal_thread.post(let_go)
            self._parts.journal_thread.shutdown(wait=False)

        self._parts.sink_thread.post(last)
        self._parts.sink_thread.shutdown(wait=False)
        return ended

    def _start(self, work: Coroutine[Any, Any, _R]) -> asyncio.Task[_R]:
        return self._loop.create_task(work, name="aqltelemetry")

    async def _on_journal_thread(self, job: Callable[[], _R]) -> _R:
        return await self._loop.run_in_executor(self._parts.journal_thread, job)
