"""Carries sealed segments through the queue to the sinks, and out of the journal.

A segment leaves the journal when every sink has said that it keeps it. Whatever
fails before that is done again, from the segment.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

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
"""Told of a segment that is done with, and how many of its records are kept; None if it
could not be read."""


class Flush:
    """Asks the delivery, in the queue, to have everything before it kept for good."""

    def __init__(self, *, last: bool = False) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last = last


class Delivery:
    """Empties the queue into the sinks, as one task.

    Segments are read on `executor`. What a sink has taken is flushed after
    `max_age_s`, when the queue says so, or when the journal `is_full`; where there is
    one sink, which has taken samples alone, later than that.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        executor: Executor,
        release: Release,
        max_age_s: float,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.queue: asyncio.Queue[SealedSegment | Flush] = asyncio.Queue()
        # A sink of one's own may be there to show what was observed soon.
        self.cursors = [SinkCursor(sink, may_wait=len(sinks) == 1) for sink in sinks]
        self.write_ns = 0
        self.errors = 0
        """How often something failed that is no sink's fault."""
        self._executor = executor
        self._release = release
        self._max_age_s = max_age_s
        self._is_full = is_full
        self._loop = asyncio.get_running_loop()
        self._backlog: dict[SegmentId, SealedSegment] = {}
        self._records: dict[SegmentId, int] = {}
        self._kept_by: dict[SegmentId, set[SinkCursor]] = {}
        self._tries: Counter[SegmentId] = Counter()
        self._logged: set[type[Exception]] = set()

    @property
    def depth(self) -> int:
        """How many segments wait for the sinks."""
        return self.queue.qsize() + len(self._backlog)

    @property
    def is_behind(self) -> bool:
        """Whether several segments wait to be written; on any thread."""
        return self.queue.qsize() + sum(cursor.waiting for cursor in self.cursors) >= _MANY

    @property
    def sink_errors(self) -> int:
        """How often giving something to a sink failed."""
        return self.errors + sum(cursor.errors for cursor in self.cursors)

    @property
    def quiet_s(self) -> float:
        """How many seconds a segment that holds samples alone need not be handed on."""
        is_quiet = all(cursor.is_quiet for cursor in self.cursors)
        return min(self._max_age_s, _QUIET_S) if is_quiet else 0.0

    async def run(self) -> None:
        """Deliver until a last flush; may be run again after it was cancelled.

        Nothing else ends it: what fails is counted, logged once, and done again.
        """
        while True:
            item = await self._next()
            flush = item if isinstance(item, Flush) else None
            try:
                if isinstance(item, SealedSegment):
                    self._add(item)
                await self._serve_all(flush)
            except Exception as exc:  # noqa: BLE001 - or nothing would be published any more
                self._note(exc)
                self._settle(flush, exc)
                await asyncio.sleep(_PAUSE_S)
            except BaseException as exc:
                self._settle(flush, exc)
                raise
            self._settle(flush, None)
            if flush is not None and flush.last:
                return

    async def _serve_all(self, flush: Flush | None) -> None:
        started_ns = monotonic_ns()
        urgent = flush is not None or self._is_full()
        for cursor in self.cursors:
            await self._serve(cursor, flush=flush is not None, urgent=urgent)
        self.write_ns += monotonic_ns() - started_ns

    def _note(self, exc: Exception) -> None:
        self.errors += 1
        if type(exc) not in self._logged:
            self._logged.add(type(exc))
            log.error("delivery to the sinks failed, and will be tried again", exc_info=exc)

    @staticmethod
    def _settle(flush: Flush | None, exc: BaseException | None) -> None:
        if flush is None or flush.done.done():
            return
        if exc is None:
            flush.done.set_result(None)
        else:
            flush.done.set_exception(DeliveryError(exc))
            flush.done.exception()  # who asked for it may not wait any more

    async def _next(self) -> SealedSegment | Flush | None:
        due = [at for cursor in self.cursors if (at := self._due_at_s(cursor)) is not None]
        wait_s = min(due) - self._loop.time() if due else None
        try:
            async with asyncio.timeout(wait_s):
                return await self.queue.get()
        except TimeoutError:
            return None

    def _due_at_s(self, cursor: SinkCursor) -> float | None:
        if cursor.todo:
            return cursor.retry_at_s
        return cursor.flush_at_s(self._max_age_s)

    def _add(self, sealed: SealedSegment) -> None:
        self._backlog[sealed.id] = sealed
        self._kept_by[sealed.id] = set()
        for cursor in self.cursors:
            cursor.add(sealed.id)

    async def _serve(self, cursor: SinkCursor, *, flush: bool, urgent: bool) -> None:
        now_s = self._loop.time()
        if now_s < cursor.retry_at_s and not flush:
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
                cursor.give_again()
                raise
            cursor.fail(exc, self._loop.time())  # of something that the sink awaited
        except BaseException:
            cursor.give_again()
            raise

    async def _read(self, segment: SegmentId) -> Batch | None:
        sealed = self._backlog[segment]
        try:
            reading = await self._loop.run_in_executor(self._executor, read_sealed, sealed)
        except (OSError, SegmentError) as exc:
            if self._is_worth_another_try(segment, exc):
                raise
            log.error("segment %s can't be read: %s", segment, exc)
            for cursor in self.cursors:
                cursor.forget(segment)
            self._done_with(segment, None)
            return None
        self._records[segment] = reading.records
        return reading.batch

    def _is_worth_another_try(self, segment: SegmentId, exc: Exception) -> bool:
        self._tries[segment] += 1
        is_lasting = isinstance(exc, SegmentError | FileNotFoundError)
        return not is_lasting and self._tries[segment] < _READ_TRIES

    def _keep(self, cursor: SinkCursor, segments: Sequence[SegmentId]) -> None:
        for segment in segments:
            kept_by = self._kept_by[segment]
            kept_by.add(cursor)
            if len(kept_by) == len(self.cursors):
                self._done_with(segment, self._records[segment])

    def _done_with(self, segment: SegmentId, records: int | None) -> None:
        del self._kept_by[segment]
        self._tries.pop(segment, None)
        self._records.pop(segment, None)
        self._release(self._backlog.pop(segment), records)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or bool(task.cancelling())


def read_sealed(sealed: SealedSegment) -> Reading:
    """Read a segment, once all that it accepted is in it.

    A thread may be between taking a slot and storing its record; that lasts for
    as long as it is kept from running. After a second it is taken for dead.
    """
    for _ in range(_LATE_TRIES):
        if sealed.accepted is None:
            return _read_recovered(sealed)
        reading = read_segment(
            sealed.read(),
            recovered=False,
            accepted=sealed.accepted,
            context=Context(labels=sealed.labels()),
        )
        if reading.records >= sealed.accepted:
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
