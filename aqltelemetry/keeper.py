"""Keeps the recorder in segments: spares ahead, the full ones handed on behind.

All of it happens on one thread of ours: neither the event loop nor a thread of
the application ever makes, maps or removes a file.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aqltelemetry.clock import Anchor
from aqltelemetry.journal.sealed import SealedSegment, seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.recorder import Recording
from aqltelemetry.threads import WorkerThread, native

_log = logging.getLogger("aqltelemetry")
_SPARES = 2
_SPARES_PER_FILLED = 4
_MAX_SPARES = 16

TORN = "torn"
"""Drop reason: a slot was taken, and no record came to be in it."""
UNREADABLE = "unreadable"
"""Drop reason: the segment's file is gone, or can't be read."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the records accepted by a writer are, at one moment."""

    in_journal: int
    published: int
    lost: Mapping[str, int]
    journal_bytes: int


class Keeper:
    """Feeds a recording with segments and hands on the full ones, in order.

    `hand_on` is called on the keeper's thread. `max_bytes` bounds the segments
    of this writer, those handed on and not yet discarded included; at the bound
    no segment is made, and the recorder drops what is newest.
    """

    def __init__(
        self,
        thread: WorkerThread,
        writer: Writer,
        hand_on: Callable[[SealedSegment], None],
        max_bytes: int,
    ) -> None:
        self._thread = thread
        self._writer = writer
        self._hand_on = hand_on
        self._max_bytes = max_bytes
        self._lock = native("_thread", "allocate_lock")()
        self._chain: list[Segment] = []
        self._sealed: dict[SealedSegment, int] = {}
        self._published = 0
        self._lost: Counter[str] = Counter()
        self._recording: Recording | None = None
        self._refused = False

    def account(self) -> Account:
        """Say where every record is that was accepted; consistent at any moment."""
        with self._lock:
            live = sum(segment.taken for segment in self._chain)
            return Account(
                in_journal=live + sum(self._sealed.values()),
                published=self._published,
                lost=dict(self._lost),
                journal_bytes=self._journal_bytes(),
            )

    def open(self, anchor: Anchor) -> Recording:
        """Make the first segments and the recording; raises OSError without room for one."""
        first = self._writer.new_segment()
        with self._lock:
            self._chain.append(first)
        recording = self._recording = Recording(self, first, anchor)
        self.tend()
        return recording

    def wake(self) -> None:
        """Be told, on any thread and in any context, that a segment is full."""
        self._thread.post(self.tend)

    def successor(self, full: Segment) -> Segment | None:
        """Return None: making a segment takes longer than a recorder may wait."""
        del full
        return None

    def tend(self) -> None:
        """Hand on the segments that recording has left, and provide new ones."""
        self._tend(sealed=0)

    def _tend(self, *, sealed: int) -> None:
        recording = self._recording
        if recording is None:
            return
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

    def seal(self) -> None:
        """Have the current segment handed on if anything was recorded in it."""
        recording = self._recording
        if recording is not None and recording.segment.taken:
            recording.advance(recording.segment)
            self._tend(sealed=1)

    def close(self) -> None:
        """Hand on all that is left; recording must be off."""
        self._recording = None
        while self._chain:
            self._retire(self._chain[0])

    def discard(self, sealed: SealedSegment, records: int | None) -> None:
        """Remove a segment of which `records` are kept elsewhere; None: it can't be read."""
        sealed.discard()
        with self._lock:
            accepted = self._sealed.pop(sealed)
            self._published += records or 0
            if lost := accepted - (records or 0):
                self._lost[UNREADABLE if records is None else TORN] += lost
        self.tend()

    def _retire(self, segment: Segment) -> None:
        sealed = seal(segment)
        with self._lock:
            del self._chain[0]
            if sealed.accepted:
                self._sealed[sealed] = sealed.accepted
        if sealed.accepted:
            self._hand_on(sealed)
        else:
            sealed.discard()

    def _journal_bytes(self) -> int:
        live = sum(segment.size_bytes for segment in self._chain)
        return live + sum(sealed.size_bytes for sealed in self._sealed)

    def _extend(self) -> bool:
        last = self._chain[-1]
        if self._journal_bytes() + last.size_bytes > self._max_bytes:
            return self._refuse("the journal is at its limit of %d bytes", self._max_bytes)
        try:
            last.successor = self._writer.new_segment()
        except OSError as exc:
            return self._refuse("no room for the journal: %s", exc)
        with self._lock:
            self._chain.append(last.successor)
        self._refused = False
        return True

    def _refuse(self, reason: str, detail: object) -> bool:
        if not self._refused:
            self._refused = True
            _log.warning(reason + "; new observations are dropped once it is full", detail)
        return False
