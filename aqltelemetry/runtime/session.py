"""One recording from its start to its stop: its tasks, the order of the stop, its statistics."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from mmap import mmap
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from aqltelemetry.errors import DeliveryError, StateError
from aqltelemetry.journal.in_flight import ALIVE_AT, OOM_KILLS_AT, pack_alive, pack_count
from aqltelemetry.journal.writer import Writer
from aqltelemetry.protocols import Attached, Sampler, Sink
from aqltelemetry.recording import in_flight, last_words, recorder
from aqltelemetry.recording.forked_child import ChildSegments
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.recording.segment_pool import SegmentPool
from aqltelemetry.recording.stats import Stats
from aqltelemetry.runtime.control_task import ControlTask
from aqltelemetry.runtime.delivery import Delivery, Flush, SegmentQueue
from aqltelemetry.runtime.recovery import Recovery, warn_of_children
from aqltelemetry.runtime.schedule import Schedule, cancel, within
from aqltelemetry.settings import Settings
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system.clock import CLOCK_STEP_NS, NS_PER_S, Anchor, follow, read_anchor
from aqltelemetry.system.kernel import find_oom_counter, read_oom_kills
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import NativeFuture, WorkerThread

_HEARTBEAT_S = 1.0
_CLOCK_STEP = ("runtime", "telemetry clock step")
_LAST_SAMPLE_SHARE = 0.2
_END_S = 0.1
_R = TypeVar("_R")


class Journal(NamedTuple):
    """Where a recording writes to: its writer, how others are made, and its segments."""

    new_writer: Callable[[], Writer]
    writer: Writer
    pool: SegmentPool
    recording: Recording
    in_flight: mmap | None
    """The slots of the requests in flight; None where there is no room for them."""


class Parts(NamedTuple):
    """What a session consists of. All of it is complete before anything is recorded."""

    settings: Settings
    journal: Journal
    journal_roots: Sequence[Path]
    journal_thread: WorkerThread
    sink_thread: WorkerThread
    queue: SegmentQueue
    delivery: Delivery
    recovery: Recovery
    control: ControlTask
    samplers: Sequence[Sampler]
    sinks: Sequence[Sink]
    retention: Retention
    resources: ExitStack
    """Releases the journal and ends the threads; it is closed on the journal's thread."""


class StartContext(NamedTuple):
    """What exists before a session's parts: the event loop, a thread, what is to be released."""

    loop: asyncio.AbstractEventLoop
    journal_thread: WorkerThread
    resources: ExitStack


async def open_session(
    assemble: Callable[[StartContext], Parts], check: Callable[[], None]
) -> Session:
    """Start a recording on the running event loop.

    `assemble` makes the parts, on the journal's thread; `check` raises if nothing is to be recorded
    any more. If a step fails, or the caller is cancelled, the steps before it are undone.
    """
    loop = asyncio.get_running_loop()
    resources = ExitStack()
    with ExitStack() as undo:
        thread = WorkerThread("aqltelemetry-journal")
        undo.callback(thread.shutdown, wait=False)
        # In the thread's queue it follows `assemble`, which a cancellation does not interrupt.
        undo.callback(thread.post, resources.close)
        context = StartContext(loop, thread, resources)
        parts = await loop.run_in_executor(thread, assemble, context)
        check()
        session = Session(parts, undo)
        undo.pop_all()
    return session


class Session:
    """A recording that is on; `close` ends it. It is used on the event loop that made it."""

    def __init__(self, parts: Parts, undo: ExitStack) -> None:
        """Start to record, and register in `undo` how to undo each step."""
        self.journal_thread = parts.journal_thread
        self._parts = parts
        self._pool = parts.journal.pool
        self._recording = parts.journal.recording
        self._delivery = parts.delivery
        self._recovery = parts.recovery
        self._loop = asyncio.get_running_loop()
        self._oom_counter = find_oom_counter()
        self._attached: list[Attached] = []
        self._tasks: list[asyncio.Task[None]] = []
        undo.callback(self._switch_off)
        self.resume()
        for sampler in parts.samplers:
            self._attach(sampler)
        self._schedules = [self._schedule(sampler) for sampler in parts.samplers]
        self._delivering = self._start(self._delivery.run())
        undo.callback(self._delivering.cancel)
        for work in (
            self._heartbeat,
            self._seal_and_recover,
            parts.control.run,
            *(schedule.run for schedule in self._schedules),
        ):
            task = self._start(work())
            undo.callback(task.cancel)
            self._tasks.append(task)

    @property
    def is_usable(self) -> bool:
        """Whether the event loop still exists and delivers."""
        return not self._loop.is_closed() and not self._delivering.done()

    def check_loop(self) -> None:
        """Raise StateError if the running event loop is not the session's."""
        if asyncio.get_running_loop() is not self._loop:
            msg = "the monitor was started on another event loop: use it there"
            raise StateError(msg)

    async def await_there(self, work: Callable[[], Coroutine[Any, Any, _R]]) -> _R:
        """Await something on the session's event loop, from any event loop."""
        if asyncio.get_running_loop() is self._loop:
            return await work()
        done: Future[asyncio.Task[_R]] = NativeFuture()
        self._loop.call_soon_threadsafe(
            lambda: self._start(work()).add_done_callback(done.set_result)
        )
        return (await asyncio.wrap_future(done)).result()

    async def flush(self, seal: Callable[[], None] | None = None) -> None:
        """Wait until the sinks keep all that was recorded before.

        `seal` hands on the segments; by default it is the pool's `seal`. Raises DeliveryError.
        """
        if self._delivering.done():
            # A program may cancel all tasks of its event loop.
            log.warning("delivery to the sinks was cancelled, and begins again")
            self._delivering = self._start(self._delivery.run())
        flush = Flush()
        await self._loop.run_in_executor(self.journal_thread, seal or self._pool.seal)
        self._parts.queue.put(flush)
        await asyncio.wait((flush.done, self._delivering), return_when=asyncio.FIRST_COMPLETED)
        # What was released before this is discarded now.
        await self._loop.run_in_executor(self.journal_thread, int)
        if not flush.done.done():
            raise DeliveryError(asyncio.CancelledError("the delivery was cancelled"))
        flush.done.result()

    async def close(self, timeout_s: float) -> bool:
        """End the recording; return whether all of it was published within the time."""
        deadline_s = self._loop.time() + timeout_s
        published = False
        try:
            await cancel(*self._tasks)
            async with within(self._loop.time() + timeout_s * _LAST_SAMPLE_SHARE):
                await self.sample()
            self._switch_off()
            async with within(deadline_s):
                await self._try_to_flush(self._pool.close)
                published = self._delivery.depth == 0
            async with within(deadline_s - (deadline_s - self._loop.time()) * _LAST_SAMPLE_SHARE):
                await self._recover_last()
            await cancel(self._delivering)
            async with within(deadline_s):
                for sink in self._parts.sinks:
                    await sink.close()
        finally:
            self._switch_off()
            released = self._release()
        async with within(deadline_s):
            await asyncio.shield(asyncio.wrap_future(released))
        return published

    async def sample(self) -> None:
        """Take a sample of each series now."""
        await asyncio.gather(*(schedule.sample() for schedule in self._schedules))

    def resume(self) -> None:
        """Record, unless recordings are switched off; also after another session has failed."""
        if not self._parts.control.is_off:
            recorder.install(self._recording)
        if in_flight.installed() is not self._parts.journal.in_flight:
            in_flight.install(self._parts.journal.in_flight)
            last_words.keep_in(self._parts.journal.writer.path)
            in_flight.store_routes_by(self._store_routes)

    def abandon(self) -> None:
        """Leave everything to recovery, because the event loop is gone."""
        self._switch_off()
        with suppress(TimeoutError):
            self._release().result(_END_S)

    def abandon_in_child(self) -> ChildSegments:
        """Leave everything to the parent process; return what a recording of the child uses."""
        self._detach()
        self._drop_in_flight()
        self._parts.journal.writer.abandon_in_child()
        self._recovery.close()
        return ChildSegments(self._parts.journal.new_writer)

    def stats(self) -> Stats:
        """Return the statistics of the recording at this moment."""
        counts = self._pool.accounting.counts()
        dropped = Counter(self._recording.drops)
        dropped.update(counts.lost)
        return Stats(
            recorded=counts.published + counts.in_journal + dropped.total(),
            published=counts.published,
            in_journal=counts.in_journal,
            dropped=MappingProxyType(dropped),
            recovered=self._recovery.records,
            journal_bytes=self._pool.journal_bytes,
            is_crash_proof=self._parts.journal.writer.path is not None,
            is_off=self._parts.control.is_off,
            queue_depth=self._delivery.depth,
            write_s=self._delivery.write_ns / NS_PER_S,
            sampler_errors=sum(schedule.errors for schedule in self._schedules),
            sink_errors=self._delivery.sink_errors,
            missed_ticks=sum(schedule.missed for schedule in self._schedules),
            retention_errors=self._parts.retention.errors,
        )

    async def _heartbeat(self) -> None:
        """Follow the wall clock, and refill the pool in case that a notification was lost."""
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            last, measured = self._recording.anchor, read_anchor()
            self._note_alive(measured)
            self._recording.renew(follow(last, measured))
            if abs(step_ns := measured.offset_ns - last.offset_ns) > CLOCK_STEP_NS:
                self._recording.append(_CLOCK_STEP, step_ns / NS_PER_S)
            self._pool.notify()
            self.journal_thread.post(self._recording.log_drops)

    def _note_alive(self, anchor: Anchor) -> None:
        mapped = self._parts.journal.in_flight
        if mapped is not None:
            mapped[ALIVE_AT : ALIVE_AT + 16] = pack_alive(*anchor)

    def _note_oom_kills(self) -> None:
        mapped = self._parts.journal.in_flight
        if mapped is not None:
            kills = pack_count(read_oom_kills(self._oom_counter))
            mapped[OOM_KILLS_AT : OOM_KILLS_AT + 8] = kills

    async def _seal_and_recover(self) -> None:
        """Recover what dead writers left, and seal the current segment, at each interval."""
        while True:
            self.journal_thread.post(self._recovery.scan)
            self.journal_thread.post(self._note_oom_kills)
            await asyncio.sleep(self._parts.settings.flush_interval_s)
            self.journal_thread.post(partial(self._pool.seal, self._delivery.quiet_s))

    async def _try_to_flush(self, seal: Callable[[], None]) -> None:
        try:
            await self.flush(seal)
        except DeliveryError as exc:
            log.error("%s", exc)

    async def _recover_last(self) -> None:
        """Publish what ended processes left, above all children of this process."""
        run, thread = self._loop.run_in_executor, self.journal_thread
        while await run(thread, self._recovery.scan_last):
            await self._try_to_flush(self._pool.seal)
        await run(thread, warn_of_children, self._parts.journal_roots)

    def _schedule(self, sampler: Sampler) -> Schedule:
        interval_s = sampler.interval_s or self._parts.settings.interval_s
        return Schedule(sampler, interval_s, self._recording.append)

    def _attach(self, sampler: Sampler) -> None:
        if isinstance(sampler, Attached):
            append, prefix = self._recording.append, sampler.prefix
            self._attached.append(sampler)  # before: `attach` may fail half way
            sampler.attach(lambda label, value: append((prefix, label), value))

    def _switch_off(self) -> None:
        self._detach()
        recorder.remove(self._recording)
        self._drop_in_flight()

    def _drop_in_flight(self) -> None:
        if in_flight.installed() is self._parts.journal.in_flight:
            in_flight.install(None)
            in_flight.store_routes_by(None)
            last_words.keep_in(None)

    def _store_routes(self, templates: Sequence[str]) -> None:
        self.journal_thread.post(partial(self._parts.journal.writer.store_routes, templates))

    def _detach(self) -> None:
        for sampler in self._attached:
            try:
                sampler.detach()
            except Exception:  # noqa: BLE001 - a sampler's fault is not the application's
                log.exception("sampler %r can't be detached", sampler)

    def _release(self) -> Future[None]:
        """Release the journal and end the threads, once their jobs are done.

        While the sinks' thread may still publish, no other process may get its segments.
        """
        released: Future[None] = NativeFuture()

        def release() -> None:
            try:
                self._recording.log_drops()
                self._parts.resources.close()
            finally:
                released.set_result(None)

        def last() -> None:
            self.journal_thread.post(release)
            self.journal_thread.shutdown(wait=False)

        self._parts.sink_thread.post(last)
        self._parts.sink_thread.shutdown(wait=False)
        return released

    def _start(self, work: Coroutine[Any, Any, _R]) -> asyncio.Task[_R]:
        return self._loop.create_task(work, name="aqltelemetry")
