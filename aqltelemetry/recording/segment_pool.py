"""Keeps the recorder in segments: spares ahead, the full ones handed on behind.

All of it happens on one thread of ours: neither the event loop nor a thread of
the application ever makes, maps or removes a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.journal.counters import TORN, UNREADABLE, CounterName
from aqltelemetry.journal.sealed import SealedSegment, seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.observation import RUNTIME
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.system.clock import NS_PER_S, Anchor, monotonic_ns
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import WorkerThread
from aqltelemetry.system.unpatched import native

_SPARES = 2
_SPARES_PER_FILLED = 4
_MAX_SPARES = 16
_BREATH_S = 50e-6
_LABELS_A_BREATH = 32
_MAX_BREATHS = 32
_RECORDS_A_STOP = 4096  # of the compiled twin's slots
_RECORDS_A_BREATH = 256
_BREATHS_A_STEP = 512
_MANY_RECORDS = 4096
_WARNING_EVERY_NS = 60_000_000_000


class RecordCounts(NamedTuple):
    """Where the records accepted by a writer are, at one moment."""

    in_journal: int
    published: int
    lost: Mapping[str, int]
    journal_bytes: int


class SegmentPool:
    """Feeds a recording with segments and hands on the full ones, in order.

    `hand_on` is called on the keeper's thread, `is_behind`, whether those handed on are
    late to be written, on any. `max_bytes` bounds the segments
    of this writer, those handed on and not yet discarded included; at the bound
    no segment is made, and the recorder drops what is newest.
    """

    def __init__(
        self,
        thread: WorkerThread,
        writer: Writer,
        hand_on: Callable[[SealedSegment], None],
        max_bytes: int,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._thread = thread
        self._writer = writer
        self._hand_on = hand_on
        self._is_behind = is_behind
        self._max_bytes = max_bytes
        self._lock = native("_thread", "allocate_lock")()
        self._chain: list[Segment] = []
        self._sealed: dict[SealedSegment, int] = {}
        self._done_with: list[SealedSegment] = []
        self._accepted = 0
        self._published = 0
        self._lost: Counter[str] = Counter()
        self._recording: Recording | None = None
        self._begun_ns = monotonic_ns()
        self._refused = False
        self._warned_ns: int | None = None
        self._has_many_labels = False
        self._waiting_labels = iter(range(_MAX_BREATHS * _LABELS_A_BREATH))
        self._breaths = iter(range(_BREATHS_A_STEP))

    def counts(self) -> RecordCounts:
        """Say where every record is that was accepted; consistent at any moment."""
        with self._lock:
            live = sum(segment.taken for segment in self._chain)
            return RecordCounts(
                in_journal=live + sum(self._sealed.values()),
                published=self._published,
                lost=dict(self._lost),
                journal_bytes=self._journal_bytes(),
            )

    def open(self, first: Segment, anchor: Anchor) -> Recording:
        """Make the recording, which begins in the writer's first segment."""
        first.store_counter(CounterName.ACCEPTED_BEFORE, 0)
        with self._lock:
            self._chain.append(first)
        recording = self._recording = Recording(first, anchor, pool=self)
        self.notify()  # for spares, which recording need not wait for
        return recording

    def notify(self) -> None:
        """Be told, on any thread and in any context, that a segment is full."""
        self._thread.post(self.refill)

    def request_label_table(self) -> None:
        """Be told, as above, that a segment has many labels, and no table of them.

        Thousands of new labels within a few milliseconds would fill all spares before
        the thread has had its turns at the interpreter; so it is let have some, by a
        moment for every so many labels, and a few of these in all of a process's life.
        """
        if not self._has_many_labels:
            self._has_many_labels = True
            self.notify()
        number = next(self._waiting_labels, None)
        if number is not None and number % _LABELS_A_BREATH == 0:
            native("time", "sleep")(_BREATH_S)  # in which no greenlet runs

    def throttle(self, segment: Segment) -> None:
        """Let our threads have a turn at the interpreter, if they are behind; amid a record.

        An event loop whose turns only compute lets go of the interpreter for a microsecond
        in each, whereupon a thread that waits for it begins anew to wait for the 5 ms after
        which it may ask for it, so that one turn may take seconds to come, and a segment
        takes tens of turns. Where these lead nowhere, as with a disk that hangs, they end.
        """
        # A segment just begun lasts, and the first one of a process has no successor yet.
        is_late = segment.successor is None and segment.taken >= _RECORDS_A_STOP
        if not is_late and not self._is_behind():
            return
        if next(self._breaths, None) is not None:
            native("time", "sleep")(_BREATH_S)  # in which no greenlet runs
            segment.stop_after(_RECORDS_A_BREATH)

    def refill(self) -> None:
        """Hand on the segments that recording has left, and provide new ones."""
        self._refill(sealed=0)

    def _refill(self, *, sealed: int) -> None:
        recording = self._recording
        if recording is None:
            return
        self._clear()
        self._share_table()
        # By number, since a late thread may set the recorder back for a moment.
        current = recording.segment.header.sequence
        filled = -sealed
        while self._chain[0].header.sequence < current:
            self._retire(self._chain[0])
            filled += 1
        # The more were filled since the last look, the more will be by the next, which
        # may come late: a busy interpreter lets a thread wait, and so does a busy machine.
        wanted = min(_SPARES + _SPARES_PER_FILLED * max(filled, 0), _MAX_SPARES)
        while len(self._chain) <= wanted and self._extend():
            pass

    def seal(self, quiet_s: float = 0.0) -> None:
        """Have the current segment handed on if anything was recorded in it.

        One that holds nothing but samples, and not many, is kept for `quiet_s` seconds.
        """
        recording = self._recording
        if recording is None:
            return
        segment, now_ns = recording.segment, monotonic_ns()
        is_quiet = segment.taken < _MANY_RECORDS and segment.holds_only(RUNTIME)
        if is_quiet and now_ns - self._begun_ns < quiet_s * NS_PER_S:
            return
        self._begun_ns = now_ns
        if segment.taken:
            recording.advance(segment)
            self._refill(sealed=1)

    def close(self) -> None:
        """Hand on all that is left; recording must be off."""
        recording, self._recording = self._recording, None
        if recording is not None:
            self._end(recording)
        while self._chain:
            self._retire(self._chain[0])

    def _end(self, recording: Recording) -> None:
        """Have the last segment say that it is the last, if there is anything to account for."""
        current = recording.segment.header.sequence
        while self._chain[0].header.sequence < current:
            self._retire(self._chain[0])
        last = self._chain[0]
        if last.taken or self._accepted or recording.drops:
            recording.dropping.carry(last)
            last.store_counter(CounterName.ENDED, 1)
            self._retire(last, is_end=True)

    def release(self, sealed: SealedSegment, records: int | None) -> None:
        """Remove a segment of which `records` are kept elsewhere; None: it can't be read."""
        self._done_with.append(sealed)
        self._clear()
        self._breaths = iter(range(_BREATHS_A_STEP))
        with self._lock:
            accepted = self._sealed.pop(sealed)
            self._published += records or 0
            if lost := accepted - (records or 0):
                self._lost[UNREADABLE if records is None else TORN] += lost
        self._store_totals()
        self.refill()

    def _clear(self) -> None:
        """Remove the files of what is done with; one that can't be is tried again later."""
        for sealed in tuple(self._done_with):
            with suppress(OSError):
                sealed.discard()
                self._done_with.remove(sealed)

    def _retire(self, segment: Segment, *, is_end: bool = False) -> None:
        sealed = seal(segment)
        accepted = segment.taken
        with self._lock:
            del self._chain[0]
            if accepted or is_end:
                self._sealed[sealed] = accepted
        self._accepted += accepted
        self._store_totals()
        if accepted or is_end:
            self._hand_on(sealed)
        else:
            self._done_with.append(sealed)
            self._clear()

    def _store_totals(self) -> None:
        """Have the next segment to be handed on tell what became of those before."""
        if self._chain:
            self._chain[0].store_counter(CounterName.ACCEPTED_BEFORE, self._accepted)
            if unreadable := self._lost[UNREADABLE]:
                self._chain[0].store_counter(CounterName.UNREADABLE, unreadable, monotonic_ns())

    def _journal_bytes(self) -> int:
        table = 0 if self._writer.table is None else self._writer.table_bytes
        live = table + sum(segment.size_bytes for segment in self._chain)
        return live + sum(sealed.size_bytes for sealed in self._sealed)

    def _share_table(self) -> None:
        """Have all segments use the writer's label table, once one has many labels."""
        writer = self._writer
        if not self._has_many_labels or writer.table is not None:
            return
        if self._journal_bytes() + writer.table_bytes > self._max_bytes:
            return  # segments have room for labels of their own
        with suppress(OSError):
            table = writer.make_table()
            for segment in self._chain:
                # Those made before somebody removed the journal have the table from before.
                if segment.table is None:
                    segment.share(table)

    def _extend(self) -> bool:
        last = self._chain[-1]
        self._share_table()
        if self._journal_bytes() + last.size_bytes > self._max_bytes:
            return self._refuse("the journal is at its limit of %d bytes", self._max_bytes)
        try:
            last.successor = self._writer.new_segment()
        except OSError as exc:
            return self._refuse("no room for the journal: %s", exc)
        with self._lock:
            self._chain.append(last.successor)
        self._breaths = iter(range(_BREATHS_A_STEP))
        self._refused = False
        return True

    def _refuse(self, reason: str, detail: object) -> bool:
        if not self._refused:
            self._refused = True
            now_ns = monotonic_ns()
            # A saturated program gets one segment and is refused the next, many times a second.
            if self._warned_ns is None or now_ns - self._warned_ns >= _WARNING_EVERY_NS:
                self._warned_ns = now_ns
                log.warning(reason + "; new observations are dropped once it is full", detail)
        return False
