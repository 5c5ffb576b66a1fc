"""Around the hot path: what one recording owns, and the slow way of a record.

Nothing here waits, but for moments while a table for many new labels is made, and nothing
locks, logs or raises into the application: it may run on any thread, in a signal handler or
collector callback, and in the middle of itself.
The hot path itself is in `hot_path`, of which there is a compiled twin; here it is
chosen, and here the rest of the package gets it from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

from aqltelemetry.errors import PrefixError
from aqltelemetry.journal.counters import ERROR, INVALID, NO_SEGMENT
from aqltelemetry.journal.format import Layout
from aqltelemetry.journal.labels import SeriesKey
from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import RUNTIME, Kind, Series
from aqltelemetry.recording.drops import Drops
from aqltelemetry.system.clock import Anchor
from aqltelemetry.system.extensions import choose

if TYPE_CHECKING:
    from aqltelemetry.recording import hot_path as hot
else:
    hot = choose("aqltelemetry.recording.hot_path")

_TRIES = 4
_DROPS_A_BREATH = 256
append_duration = hot.append_duration
record = hot.record
time_block = hot.time_block
is_on = hot.is_on
set_clock = hot.set_clock
now_ns = hot.now_ns
set_decorator = hot.set_decorator


class Pool(Protocol):
    """Makes segments ahead, on a thread of its own; its methods may be called in any context."""

    def notify(self) -> None:
        """Note that a segment is full."""
        ...

    def request_label_table(self) -> None:
        """Note that a segment has many labels, and no table of them."""
        ...

    def throttle(self, segment: Segment) -> None:
        """Wait for a moment if the segment after `segment` is late; called during a record."""
        ...


MakeSegment = Callable[[Segment], Segment | None]
"""Makes the segment after a full one at once; None where that fails, or is in progress."""


class Recording:
    """What one start of recording owns of the hot path: segment, anchor, drops."""

    def __init__(
        self,
        first: Segment,
        anchor: Anchor,
        *,
        pool: Pool | None = None,
        make_segment: MakeSegment | None = None,
    ) -> None:
        """Begin in the segment `first`; `pool` makes the next ones, else `make_segment` does."""
        self.pool = pool
        self._make_segment = make_segment
        self.anchor = anchor
        self.segment = first
        self.dropping = Drops()
        first.append_anchor(anchor)

    @property
    def drops(self) -> Mapping[str, int]:
        """How many observations were dropped since the start, by reason."""
        return self.dropping.totals

    def drop(self, reason: str) -> None:
        """Count an observation that is not kept."""
        number = self.dropping.count(reason)
        # Of the segment that is current after the count: `advance` carries on the others.
        self.dropping.keep(reason, number, self.segment)
        if self.pool is not None and reason is NO_SEGMENT and number % _DROPS_A_BREATH == 0:
            self.pool.throttle(self.segment)

    def log_drops(self) -> None:
        """Log each reason for which something was dropped, once; on a thread that may wait."""
        self.dropping.log()

    def renew(self, anchor: Anchor) -> None:
        """Turn the times of later records into timepoints by another anchor.

        A segment entered in between must not set time back: an anchor that is
        ahead of the last is announced before it is stored, one behind after.
        """
        if anchor.offset_ns >= self.anchor.offset_ns:
            self.anchor = anchor
        if not self.segment.append_anchor(anchor):
            self.advance(self.segment)
        self.anchor = anchor

    def advance(self, full: Segment) -> bool:
        """Go on in the segment after `full`; False when there is none.

        Every thread that finds a segment full does the same, so it matters neither
        how many do nor when: one that comes late sets back to a segment that is
        full too, from where the next record goes forward again.
        """
        successor = full.successor
        if successor is None and self._make_segment is not None:
            successor = self._make_segment(full)
        if successor is None:
            return False
        successor.append_anchor(self.anchor)
        self.segment = successor
        self.dropping.carry(successor)
        hot.set_segment(successor)
        if _recording is not self:  # switched off, or over, since this began
            hot.set_segment(_recording.segment if _recording else None)
        if self.pool is not None:
            self.pool.notify()
        return True

    def append(self, key: tuple[str, str], value: float) -> None:
        """Record a value of a series, by its prefix and label, taken now.

        Unlike `record`, it takes the prefix of the samplers' own series.
        """
        if _recording is self:
            prefix, label = key
            hot.append_value(
                Series(RUNTIME, label, Kind.FLOAT) if prefix == RUNTIME else key, value
            )


_recording: Recording | None = None


def install(recording: Recording) -> None:
    """Switch recording on."""
    global _recording  # noqa: PLW0603 - there is one recording in a process
    _recording = recording
    hot.set_segment(recording.segment)


def remove(recording: Recording) -> None:
    """Switch recording off, if it is this one that is on."""
    global _recording  # noqa: PLW0603 - as above
    if _recording is recording:
        _recording = None
        hot.set_segment(None)


def switch_off() -> bool:
    """Switch recording off, whichever it is; say whether it was on."""
    global _recording
    was_on, _recording = is_on(), None
    hot.set_segment(None)
    return was_on


def _append(key: SeriesKey, at_ns: int, value: float, layout: Layout) -> None:
    try:
        for _ in range(_TRIES):
            segment, recording = hot.current_segment(), _recording
            if segment is None or recording is None:
                return
            label_id = segment.id_of(key)
            pool = recording.pool
            if pool is not None and segment.has_many_labels:
                pool.request_label_table()
            if label_id is not None:
                # Packed before a slot is taken: a value that can't be must not leave a hole.
                body = _packed(layout, at_ns, value, label_id)
                if body is None:
                    _drop(INVALID, key, f"{type(value).__name__} is no number, or is too large")
                    return
                at = next(segment.slots, None)
                if at is not None:
                    layout.store(segment.map, at, at_ns, value, label_id, crc32(body, at))
                    if pool is not None:
                        pool.throttle(segment)
                    return
            if not recording.advance(segment):
                break
        _drop(NO_SEGMENT, key, "the journal is full, or the next segment was not made in time")
    except Exception as exc:  # noqa: BLE001 - as above
        _drop(INVALID if isinstance(exc, PrefixError) else ERROR, key, exc)


def _packed(layout: Layout, at_ns: int, value: float, label_id: int) -> bytes | None:
    try:
        return layout.pack(at_ns, value, label_id)
    except Exception:  # noqa: BLE001 - what a value's own `__float__` raises, too
        return None


def _drop(reason: str, key: SeriesKey, cause: object) -> None:
    recording = _recording
    if recording is not None:
        recording.dropping.note(reason, key, cause)
        recording.drop(reason)


hot.set_slow_path(_append)
