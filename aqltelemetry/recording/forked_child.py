"""Recording in a forked child: under its own PID, into its own segments.

A child starts without a thread or a loop of ours, and may never have any. Its
segments are made when they are needed, and published by whichever monitor runs
on the same directory, once the child is done with them: its own, should it
start one, the parent's, or a later one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from aqltelemetry.journal.counters import CounterName
from aqltelemetry.journal.format import Header
from aqltelemetry.journal.sealed import seal
from aqltelemetry.journal.segment import BlankSegment, Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns, read_anchor
from aqltelemetry.system.logs import log

_RETRY_NS = NS_PER_S
# So that a float, as it stands in a CSV file, holds it exactly.
_NAME_BYTES = 6


class ChildSegments:
    """Makes each segment as the segment of a new writer.

    So an earlier one can be let go of, for others to recover, while the process
    lives. It is let go of one segment late, since another thread may have taken
    a slot just before its segment was found full.
    """

    def __init__(self, new_writer: Callable[[], Writer]) -> None:
        self.on_record: Callable[[], object] = _nothing
        """Called in the middle of the first record, and of some later ones."""
        self._new_writer = new_writer
        self._writers: list[tuple[Writer, Segment]] = []
        self._retry_ns = 0
        self._has_failed = False
        self._name = int.from_bytes(os.urandom(_NAME_BYTES))
        # Popping is atomic, so one caller at a time makes a segment; another
        # thread, or a collector callback amid the making, finds it gone.
        self._turn = [True]

    def start_recording(self) -> Recording:
        """Return a recording whose first segment is made by its first record."""
        blank = BlankSegment(Header("0" * 16, 0, os.getpid(), 1, 0, 0, ""))
        return Recording(blank, read_anchor(), make_segment=self.make_next)

    def make_next(self, full: Segment) -> Segment | None:
        """Make the segment after `full`; None where that fails, or is being done."""
        try:
            turn = self._turn.pop()
        except IndexError:
            return None
        try:
            if full.successor is None and monotonic_ns() >= self._retry_ns:
                full.successor = self._make()
        except OSError as exc:
            self._retry_ns = monotonic_ns() + _RETRY_NS
            if not self._has_failed:
                self._has_failed = True
                log.warning(
                    "forked process %d has no journal, and drops what it records: %s",
                    os.getpid(),
                    exc,
                )
        finally:
            self._turn.append(turn)
        return full.successor

    def close(self) -> None:
        """Let go of every segment; recording must be off."""
        while self._writers:
            self._let_go(*self._writers.pop(0))

    def abandon_in_child(self) -> ChildSegments:
        """Leave all to the parent, in a child's child; return what feeds that."""
        for writer, _ in self._writers:
            writer.abandon_in_child()
        return ChildSegments(self._new_writer)

    def _make(self) -> Segment:
        writer = self._new_writer()
        try:
            # The application waits: not a moment is to be given away.
            segment = writer.new_segment(yield_gil=_keep_gil)
        except BaseException:
            writer.close()
            raise
        segment.append_anchor(read_anchor())
        segment.store_counter(CounterName.CHILD_NUMBER, self._name)
        segment.store_counter(CounterName.ACCEPTED_BEFORE, 0)
        self._writers.append((writer, segment))
        with suppress(Exception):  # it is no reason not to record
            self.on_record()
        while len(self._writers) > 2:  # noqa: PLR2004 - the new one, and the one before
            self._let_go(*self._writers.pop(0))
        return segment

    @staticmethod
    def _let_go(writer: Writer, segment: Segment) -> None:
        sealed = seal(segment)
        with suppress(OSError):
            if not sealed.accepted:
                sealed.discard()
        with suppress(OSError):
            writer.close()


def _keep_gil() -> None:
    pass


def _nothing() -> None:
    pass
