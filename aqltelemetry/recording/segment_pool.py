"""Provides a recording with spare segments, and hands on the filled ones.

All of it runs on one thread of aqltelemetry: neither the event loop nor a thread of the
application ever creates, maps or removes a file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from aqltelemetry.journal.counters import CounterName, store_counter
from aqltelemetry.journal.sealed import SealedSegment, seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.observation import RUNTIME
from aqltelemetry.recording.accounting import Accounting
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.recording.throttle import Throttle
from aqltelemetry.system.clock import NS_PER_S, Anchor, monotonic_ns
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import WorkerThread

_SPARES = 2
_SPARES_PER_FILLED = 4
_MAX_SPARES = 16
_MANY_RECORDS = 4096
_WARNING_EVERY_NS = 60_000_000_000


class SegmentPool:
    """Keeps spare segments ready for a recording and hands on filled ones, in order.

    `notify`, `request_label_table` and `throttle` may be called on any thread; all other
    methods run on `thread`.

    Args:
        thread: The thread that creates and removes segments.
        writer: Makes the segments.
        hand_on: Called on `thread` with each sealed segment that holds records.
        max_bytes: Limits the size of the writer's segments, including those handed on and not
            yet released. At the limit no segment is made, and new observations are dropped.
        is_behind: Returns whether several segments wait to be written; called on any thread.
    """

    def __init__(
        self,
        thread: WorkerThread,
        writer: Writer,
        hand_on: Callable[[SealedSegment], None],
        max_bytes: int,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self.accounting = Accounting()
        self.throttle = Throttle(is_behind)
        self._thread = thread
        self._writer = writer
        self._hand_on = hand_on
        self._max_bytes = max_bytes
        self._released: list[SealedSegment] = []
        self._recording: Recording | None = None
        self._sealed_ns = monotonic_ns()
        self._is_full = False
        self._warned_ns: int | None = None
        self._needs_label_table = False

    @property
    def journal_bytes(self) -> int:
        """Size of the writer's segments and of its label table, in bytes."""
        table = 0 if self._writer.table is None else self._writer.table_bytes
        return table + self.accounting.counts().segment_bytes

    def open(self, first: Segment, anchor: Anchor) -> Recording:
        """Return a recording that starts in the writer's first segment."""
        store_counter(first, CounterName.ACCEPTED_BEFORE, 0)
        self.accounting.add(first)
        recording = self._recording = Recording(first, anchor, pool=self)
        self.notify()  # makes the spares, which recording need not wait for
        return recording

    def notify(self) -> None:
        """Make the pool's thread look for filled segments; may be called in any context."""
        self._thread.post(self.refill)

    def request_label_table(self) -> None:
        """Make the pool's thread make a label table; may be called in any context."""
        if not self._needs_label_table:
            self._needs_label_table = True
            self.notify()
        self.throttle.for_new_label()

    def refill(self) -> None:
        """Hand on the filled segments and make new spares."""
        if self._recording is not None:
            # By number, since a late thread may set the recording back for a moment.
            filled = self._hand_on_before(self._recording.segment.header.sequence)
            self._make_spares(filled)

    def seal(self, quiet_s: float = 0.0) -> None:
        """Hand on the current segment if anything was recorded in it.

        A segment that holds only samples, and not many, is kept for `quiet_s` seconds.
        """
        recording = self._recording
        if recording is None:
            return
        segment, now_ns = recording.segment, monotonic_ns()
        is_quiet = segment.taken < _MANY_RECORDS and segment.holds_only(RUNTIME)
        if is_quiet and now_ns - self._sealed_ns < quiet_s * NS_PER_S:
            return
        self._sealed_ns = now_ns
        if segment.taken:
            if segment.successor is None:  # the attempt to make one may have failed, or be due
                self._make_spares(0)
            has_left = recording.advance(segment)
            filled = self._hand_on_before(recording.segment.header.sequence)
            self._make_spares(filled - 1 if has_left else filled)  # that one was not full

    def close(self) -> None:
        """Hand on all segments that hold records; recording must be off."""
        recording, self._recording = self._recording, None
        if recording is not None:
            self._hand_on_before(recording.segment.header.sequence)
            last = self.accounting.live[0]
            if last.taken or self.accounting.accepted or recording.drops:
                recording.store_drops(last)
                store_counter(last, CounterName.ENDED, 1)
                self._hand_on_before(last.header.sequence + 1, is_end=True)
        self._hand_on_before(sys.maxsize)

    def release(self, sealed: SealedSegment, records: int | None) -> None:
        """Remove a segment of which `records` are published; None if it can't be read."""
        self._released.append(sealed)
        self._remove_released()
        self.throttle.reset()
        self.accounting.release(sealed, records)
        self._store_totals()
        self.refill()

    def _hand_on_before(self, sequence: int, *, is_end: bool = False) -> int:
        """Seal the segments before a number, in order, and hand on those that are used.

        The last segment of a recording is handed on in any case. Returns how many were sealed.
        """
        self._share_label_table()
        live, count = self.accounting.live, 0
        while live and live[0].header.sequence < sequence:
            sealed = seal(live[0])
            is_used = bool(sealed.accepted) or is_end
            self.accounting.move(sealed, keep=is_used)
            self._store_totals()
            if is_used:
                self._hand_on(sealed)
            else:
                self._released.append(sealed)
            count += 1
        self._remove_released()
        return count

    def _remove_released(self) -> None:
        """Remove the files of released segments; one that can't be is tried again later."""
        for sealed in tuple(self._released):
            with suppress(OSError):
                sealed.discard()
                self._released.remove(sealed)

    def _store_totals(self) -> None:
        """Store the running totals in the next segment to be handed on."""
        if self.accounting.live:
            first = self.accounting.live[0]
            store_counter(first, CounterName.ACCEPTED_BEFORE, self.accounting.accepted)
            if unreadable := self.accounting.unreadable:
                store_counter(first, CounterName.UNREADABLE, unreadable, monotonic_ns())

    def _make_spares(self, filled: int) -> None:
        # The more were filled since the last call, the more will be by the next one, which may
        # come late: a busy interpreter makes a thread wait, and so does a busy machine.
        wanted = min(_SPARES + _SPARES_PER_FILLED * max(filled, 0), _MAX_SPARES)
        while len(self.accounting.live) <= wanted and self._make_spare():
            pass

    def _make_spare(self) -> bool:
        last = self.accounting.live[-1]
        self._share_label_table()
        if self.journal_bytes + last.size_bytes > self._max_bytes:
            return self._warn("the journal is at its limit of %d bytes", self._max_bytes)
        try:
            last.successor = self._writer.new_segment()
        except OSError as exc:
            return self._warn("no room for the journal: %s", exc)
        self.accounting.add(last.successor)
        self.throttle.reset()
        self._is_full = False
        return True

    def _warn(self, reason: str, detail: object) -> bool:
        """Log why no segment can be made, at most once a minute; return False."""
        if not self._is_full:
            self._is_full = True
            now_ns = monotonic_ns()
            # A saturated program gets one segment and is refused the next, many times a second.
            if self._warned_ns is None or now_ns - self._warned_ns >= _WARNING_EVERY_NS:
                self._warned_ns = now_ns
                log.warning(reason + "; new observations are dropped once it is full", detail)
        return False

    def _share_label_table(self) -> None:
        """Make all segments use the writer's label table, once one segment has many labels."""
        writer = self._writer
        if not self._needs_label_table or writer.table is not None:
            return
        if self.journal_bytes + writer.table_bytes > self._max_bytes:
            return  # segments have room for labels of their own
        with suppress(OSError):
            table = writer.make_table()
            for segment in self.accounting.live:
                # Those made before the journal was removed keep the table that went with it.
                if segment.table is None:
                    segment.share(table)
