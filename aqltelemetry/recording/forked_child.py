"""Recording in a forked child: under its own PID, into its own segments.

A child starts without the threads and the event loop of aqltelemetry, and may never have any.
It makes a segment when it needs one. A monitor that runs on the same directory publishes the
segments once the child has finished with them: the child's own monitor if it starts one, the
parent's, or a later one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from aqltelemetry.journal.counters import CounterName, store_counter
from aqltelemetry.journal.format import Header
from aqltelemetry.journal.sealed import seal
from aqltelemetry.journal.segment import BlankSegment, Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.system.clock import monotonic_ns, read_anchor
from aqltelemetry.system.logs import log

_RETRY_NS = 1_000_000_000
# So that a float, as it stands in a CSV file, holds it exactly.
_NUMBER_BYTES = 6


class ChildSegments:
    """Makes each segment of a forked child with a writer of its own.

    So an earlier segment can be given up, for others to recover, while the process lives. It is
    given up one segment late, since another thread may have taken a slot just before the segment
    was found full.
    """

    def __init__(self, new_writer: Callable[[], Writer]) -> None:
        self.on_record: Callable[[], object] = _nothing
        """Called during the first record, and during later ones that start a segment."""
        self._new_writer = new_writer
        self._writers: list[tuple[Writer, Segment]] = []
        self._retry_ns = 0
        self._has_failed = False
        self._child_number = int.from_bytes(os.urandom(_NUMBER_BYTES))
        # Popping is atomic, so one caller at a time makes a segment. Another thread, or a
        # collector callback that interrupts the making, finds the list empty.
        self._turn = [True]

    def start_recording(self) -> Recording:
        """Return a recording whose first record makes the first segment."""
        blank = BlankSegment(Header("0" * 16, 0, os.getpid(), 1, 0, 0, ""))
        return Recording(blank, read_anchor(), make_segment=self.make_next)

    def make_next(self, full: Segment) -> Segment | None:
        """Make the segment after `full`; return None where that fails or is in progress."""
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
        """Give up every segment; recording must be off."""
        while self._writers:
            self._give_up(*self._writers.pop(0))

    def abandon_in_child(self) -> ChildSegments:
        """Leave everything to the parent, in a child of the child; return that child's."""
        for writer, _ in self._writers:
            writer.abandon_in_child()
        return ChildSegments(self._new_writer)

    def _make(self) -> Segment:
        writer = self._new_writer()
        try:
            # Without pauses, since the application waits.
            segment = writer.new_segment(yield_gil=_nothing)
        except BaseException:
            writer.close()
            raise
        segment.append_anchor(read_anchor())
        store_counter(segment, CounterName.CHILD_NUMBER, self._child_number)
        store_counter(segment, CounterName.ACCEPTED_BEFORE, 0)
        self._writers.append((writer, segment))
        with suppress(Exception):  # a failure there must not stop the recording
            self.on_record()
        while len(self._writers) > 2:  # noqa: PLR2004 - the new one, and the one before
            self._give_up(*self._writers.pop(0))
        return segment

    @staticmethod
    def _give_up(writer: Writer, segment: Segment) -> None:
        sealed = seal(segment)
        with suppress(OSError):
            if not sealed.accepted:
                sealed.discard()
        with suppress(OSError):
            writer.close()


def _nothing() -> None:
    pass
