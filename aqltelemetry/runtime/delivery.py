"""Delivers sealed segments to the sinks, and releases them from the journal.

A segment leaves the journal once each sink keeps it. What fails before that is done
again, from the segment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from aqltelemetry.errors import DeliveryError, SegmentError
from aqltelemetry.journal.reader import Context, Reading, read_segment
from aqltelemetry.journal.salvage import as_last, read_recovered
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.observation import Batch, SegmentId
from aqltelemetry.protocols import Sink
from aqltelemetry.runtime.sink_cursor import SinkCursor
from aqltelemetry.system.clock import monotonic_ns, pause
from aqltelemetry.system.logs import log

_LATE_TRIES = 20
_READ_TRIES = 6
_LATE_S = 0.05
_MANY = 4
_PAUSE_S = 1.0
_QUIET_S = 60.0  # for which a segment has room for the clock's anchors

Release = Callable[[SealedSegment, int | None], None]
"""Called with a finished segment and the number of records kept, or None if it was unreadable."""


class Flush:
    """A request, in the queue: the sinks keep everything before it, then `done` is settled.

    It is made on the event loop. `done` raises DeliveryError if the delivery failed.
    """

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, exc: BaseException | None) -> None:
        """End the wait for the flush, with an error or without."""
        if self.done.done():
            return
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(DeliveryError(exc))
            self.done.exception()  # the caller may not wait any more


class SegmentQueue:
    """Carries sealed segments, and flushes between them, from any thread to the event loop.

    `cursors` hold what each sink is still to be given.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sinks: Sequence[Sink]) -> None:
        self.loop = loop
        self.items: asyncio.Queue[SealedSegment | Flush] = asyncio.Queue()
        # A user-defined sink may be there to show observations soon.
        self.cursors = [SinkCursor(sink, may_wait=len(sinks) == 1) for sink in sinks]

    def put(self, item: SealedSegment | Flush) -> None:
        """Append an item, on any thread."""
        # Where the loop is closed, a segment stays in the journal.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.items.put_nowait, item)

    def is_behind(self) -> bool:
        """Return whether several segments wait to be written; on any thread."""
        return self.items.qsize() + sum(cursor.waiting for cursor in self.cursors) >= _MANY


@dataclass(slots=True)
class _Pending:
    """A segment that not every sink keeps yet."""

    sealed: SealedSegment
    missing: set[SinkCursor]
    records: int = 0
    tries: int = 0


class Delivery:
    """Empties the queue into the sinks, as one task.

    - `executor`: where segments are read.
    - `release`: called on the event loop with each segment that every sink keeps.
    - `max_age_s`: seconds after which a sink is flushed. A flush in the queue comes first;
      a single sink that has taken samples alone is flushed later.
    - `is_full`: returns whether the journal needs room, so that sinks are flushed at once.
    """

    def __init__(
        self,
        queue: SegmentQueue,
        executor: Executor,
        release: Release,
        max_age_s: float,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.write_ns = 0
        self.errors = 0
        """How often something other than a sink failed."""
        self.queue = queue
        self._cursors = queue.cursors
        self._loop = queue.loop
        self._executor = executor
        self._release = release
        self._max_age_s = max_age_s
        self._is_full = is_full
        self._pending: dict[SegmentId, _Pending] = {}
        self._logged: set[type[Exception]] = set()

    @property
    def depth(self) -> int:
        """How many segments wait for the sinks."""
        return self.queue.items.qsize() + len(self._pending)

    @property
    def sink_errors(self) -> int:
        """How often a delivery to a sink failed."""
        return self.errors + sum(cursor.errors for cursor in self._cursors)

    @property
    def quiet_s(self) -> float:
        """How many seconds a segment that holds samples alone may stay unsealed."""
        is_quiet = all(cursor.is_quiet for cursor in self._cursors)
        return min(self._max_age_s, _QUIET_S) if is_quiet else 0.0

    async def run(self) -> None:
        """Deliver until cancelled; may be run again after that.

        Nothing else ends it: what fails is counted, logged once, and done again.
        """
        while True:
            item = await self._next()
            is_flush = isinstance(item, Flush)
            started_ns = monotonic_ns()
            try:
                urgent = is_flush or self._is_full()
                for cursor in self._cursors:
                    await self._serve(cursor, flush=is_flush, urgent=urgent)
                self.write_ns += monotonic_ns() - started_ns
                if isinstance(item, Flush):
                    item.settle(None)
            except BaseException as exc:
                if isinstance(item, Flush):
                    item.settle(exc)
                if not isinstance(exc, Exception):
                    raise
                # Or nothing would be published any more.
                self._count(exc)
                await asyncio.sleep(_PAUSE_S)

    async def _next(self) -> SealedSegment | Flush | None:
        """Wait for an item, and note a segment for each sink; None when a sink is due before."""
        times_s = (cursor.due_at_s(self._max_age_s) for cursor in self._cursors)
        due = [at_s for at_s in times_s if at_s is not None]
        wait_s = min(due) - self._loop.time() if due else None
        try:
            async with asyncio.timeout(wait_s):
                item = await self.queue.items.get()
        except TimeoutError:
            return None
        if isinstance(item, SealedSegment):
            self._pending[item.id] = _Pending(item, set(self._cursors))
            for cursor in self._cursors:
                cursor.add(item.id)
        return item

    def _count(self, exc: Exception) -> None:
        self.errors += 1
        if type(exc) not in self._logged:
            self._logged.add(type(exc))
            log.error("delivery to the sinks failed, and will be tried again", exc_info=exc)

    async def _serve(self, cursor: SinkCursor, *, flush: bool, urgent: bool) -> None:
        """Give a sink what it has not got yet, and flush it where that is due."""
        if self._loop.time() < cursor.retry_at_s and not flush:
            return
        try:
            for segment in cursor.todo:
                batch = await self._read(segment)
                if batch is not None:
                    self._keep(cursor, await cursor.write(batch, self._loop.time()))
                    # What a dead process left has waited long enough.
                    urgent = urgent or batch.recovered
            flush_at_s = cursor.flush_at_s(self._max_age_s)
            if flush_at_s is not None and (urgent or flush_at_s <= self._loop.time()):
                self._keep(cursor, await cursor.flush())
        except Exception as exc:  # noqa: BLE001 - whatever a sink raises is counted and retried
            cursor.fail(exc, self._loop.time())
        except asyncio.CancelledError as exc:
            if _is_being_cancelled():
                raise
            cursor.fail(exc, self._loop.time())  # of something that the sink awaited

    async def _read(self, segment: SegmentId) -> Batch | None:
        """Return a segment's batch; None if it can't be read, and is released as that."""
        pending = self._pending[segment]
        try:
            reading = await self._loop.run_in_executor(self._executor, read_sealed, pending.sealed)
        except (OSError, SegmentError) as exc:
            pending.tries += 1
            is_lasting = isinstance(exc, SegmentError | FileNotFoundError)
            if not is_lasting and pending.tries < _READ_TRIES:
                raise
            log.error("segment %s can't be read: %s", segment, exc)
            for cursor in self._cursors:
                cursor.forget(segment)
            del self._pending[segment]
            self._release(pending.sealed, None)
            return None
        pending.records = reading.records
        return reading.batch

    def _keep(self, cursor: SinkCursor, segments: Sequence[SegmentId]) -> None:
        """Note that a sink keeps segments; release those that all sinks keep."""
        for segment in segments:
            pending = self._pending[segment]
            pending.missing.discard(cursor)
            if not pending.missing:
                del self._pending[segment]
                self._release(pending.sealed, pending.records)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or bool(task.cancelling())


def read_sealed(sealed: SealedSegment) -> Reading:
    """Read a segment, once all records that it accepted are in it.

    A thread that has taken a slot may not have stored its record yet, for as long as it does
    not run. After a second the record is taken for lost. Raises OSError or SegmentError.
    """
    accepted = sealed.accepted
    if accepted is None:
        return _read_recovered(sealed)
    for _ in range(_LATE_TRIES):
        reading = read_segment(
            sealed.read(),
            recovered=False,
            accepted=accepted,
            context=Context(labels=sealed.labels()),
        )
        if reading.records >= accepted:
            break
        pause(_LATE_S)
    return reading


def _read_recovered(sealed: SealedSegment) -> Reading:
    reading = read_recovered(
        sealed.read(),
        sealed.id,
        pid=sealed.pid,
        at_ns=sealed.made_ns,
        labels=sealed.labels(),
    )
    sealed.is_whole = reading.is_whole
    return as_last(reading) if sealed.is_last else reading
