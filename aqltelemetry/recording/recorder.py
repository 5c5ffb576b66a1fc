"""A recording: its current segment, its drops, and the slow path of a record.

Nothing here blocks, apart from short waits while segments are late, and nothing takes a lock,
logs or raises into the application: all of it may run on any thread, in a signal handler or
collector callback, and interrupt itself. `log_drops` is the exception.

The hot path is in `hot_path`, which has a compiled twin. This module chooses between them; all
other modules import the hot path's functions from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

from aqltelemetry.errors import PrefixError
from aqltelemetry.journal.counters import DROP_COUNTERS, ERROR, INVALID, NO_SEGMENT, store_counter
from aqltelemetry.journal.format import Layout
from aqltelemetry.journal.labels import SeriesKey
from aqltelemetry.journal.segment import AtomicCounter, Segment
from aqltelemetry.observation import BUILT_IN, Kind, Series
from aqltelemetry.system.clock import Anchor, monotonic_ns
from aqltelemetry.system.extensions import choose
from aqltelemetry.system.logs import log

if TYPE_CHECKING:
    from aqltelemetry.recording import hot_path as hot
else:
    hot = choose("aqltelemetry.recording.hot_path")

_TRIES = 4
_REPLACED = ("", "the recording was replaced or switched off")
_DROPS_PER_WAIT = 256
_MAX_CHARS = 200
append_duration = hot.append_duration
append_failure = hot.append_failure
record = hot.record
time_block = hot.time_block
is_on = hot.is_on
set_clock = hot.set_clock
now_ns = hot.now_ns
set_decorator = hot.set_decorator
follow_blocks = hot.follow_blocks
open_blocks = hot.open_blocks
set_cpu_blocks = hot.set_cpu_blocks


class Pool(Protocol):
    """The threads that make a recording's segments ahead and write them out."""

    def notify(self) -> None:
        """Look for filled segments soon; called on any thread and in any context."""
        ...

    def request_label_table(self) -> None:
        """Make a label table soon; called like `notify`, for each label while there is none."""
        ...

    def throttle(self, segment: Segment, /) -> None:
        """Wait for a moment if segments are late; called while a record is made."""
        ...


class Recording:
    """One recording from its start to its end, as the hot path uses it.

    Args:
        first: The segment to start in.
        anchor: Turns the times of records into timepoints.
        pool: The threads that work for it; None in a forked child, which has none.
        make_segment: Makes the segment after a full one that has no successor yet; returns
            None if it can't. By default nothing is made while the application waits.
    """

    def __init__(
        self,
        first: Segment,
        anchor: Anchor,
        *,
        pool: Pool | None = None,
        make_segment: Callable[[Segment], Segment | None] | None = None,
    ) -> None:
        self.anchor = anchor
        self.segment = first
        self.pool = pool
        self._make_segment = make_segment
        self._drops: dict[str, AtomicCounter] = {}
        self._last_drop_ns: dict[str, int] = {}
        self._causes: dict[str, str] = {}
        self._logged: set[str] = set()
        first.append_anchor(anchor)

    @property
    def drops(self) -> Mapping[str, int]:
        """How many observations were dropped since the start, by reason."""
        return {reason: counter.value for reason, counter in list(self._drops.items())}

    def drop(self, reason: str, key: object = None, cause: object = "") -> None:
        """Count a dropped observation, in the current segment too, where a kill can't undo it.

        `key` names its series; `cause` is a text or an exception. Both are kept for the log, for
        the first drop of each reason.
        """
        if reason not in self._causes:
            self._causes[reason] = _describe(key, cause)
        self._last_drop_ns[reason] = monotonic_ns()
        number = self._drops.setdefault(reason, AtomicCounter()).step() + 1
        # Read after the count: `advance` stores all earlier totals in the segment it enters.
        self._store_drop(reason, number, self.segment)
        if reason is NO_SEGMENT and number % _DROPS_PER_WAIT == 0 and self.pool is not None:
            self.pool.throttle(self.segment)

    def store_drops(self, segment: Segment) -> None:
        """Store the number of drops, by reason, in a segment."""
        for reason, total in self.drops.items():
            self._store_drop(reason, total, segment)

    def _store_drop(self, reason: str, total: int, segment: Segment) -> None:
        with suppress(Exception):
            store_counter(segment, DROP_COUNTERS[reason], total, self._last_drop_ns[reason])

    def log_drops(self) -> None:
        """Log each reason for which something was dropped, once; on a thread that may wait."""
        for reason, cause in list(self._causes.items()):
            if reason not in self._logged:
                self._logged.add(reason)
                log.warning(
                    "an observation was dropped (%s): %s; later ones are counted only, as "
                    "`telemetry dropped %s`",
                    *(reason, cause, reason),
                )

    def renew(self, anchor: Anchor) -> None:
        """Turn the times of later records into timepoints by another anchor.

        A segment entered in between must not set time back. So an anchor that is ahead of the
        last one is set before it is stored, one that is behind it after.
        """
        if anchor.offset_ns >= self.anchor.offset_ns:
            self.anchor = anchor
        if not self.segment.append_anchor(anchor):
            self.advance(self.segment)
        self.anchor = anchor

    def advance(self, full: Segment) -> bool:
        """Continue in the segment after `full`; return False if there is none.

        Each thread that finds a segment full calls this, in any number and at any time. One that
        comes late sets the recording back to a segment that is full too; from there the next
        record moves forward again.
        """
        successor = full.successor
        if successor is None and self._make_segment is not None:
            successor = self._make_segment(full)
        if successor is None:
            return False
        successor.append_anchor(self.anchor)
        self.segment = successor
        self.store_drops(successor)
        hot.set_segment(successor)
        if _recording is not self:  # it was switched off or replaced meanwhile
            hot.set_segment(_recording.segment if _recording else None)
        return True

    def append(self, key: tuple[str, str], value: float) -> None:
        """Record a value of a series, given by prefix and label, with the current time.

        Unlike `record`, it accepts the prefixes of the built-in samplers' series.
        """
        if _recording is self:
            prefix, label = key
            hot.append_value(
                Series(prefix, label, Kind.FLOAT) if prefix in BUILT_IN else key, value
            )

    def append_slowly(
        self, key: SeriesKey, at_ns: int, value: float, layout: Layout
    ) -> tuple[str, str] | None:
        """Record what the hot path could not; return why it is dropped, if it is.

        That is a reason and a cause, or `_REPLACED` if this recording is not on any more.
        """
        pool = self.pool
        for _ in range(_TRIES):
            segment = hot.current_segment()
            if segment is None or _recording is not self:  # switched off or replaced
                return _REPLACED
            label_id = segment.id_of(key)
            if pool is not None and segment.has_many_labels:
                pool.request_label_table()
            if label_id is not None:
                # Packed before a slot is taken, since a value that can't be packed must not
                # leave an empty slot.
                body = _packed(layout, at_ns, value, label_id)
                if body is None:
                    return INVALID, f"{type(value).__name__} is no number, or is too large"
                at = next(segment.slots, None)
                if at is not None:
                    layout.store(segment.map, at, at_ns, value, label_id, crc32(body, at))
                    if pool is not None:
                        pool.throttle(segment)
                    return None
            if not self.advance(segment):
                break
            if pool is not None:
                pool.notify()
        return NO_SEGMENT, "the journal is full, or the next segment was not made in time"


_recording: Recording | None = None


def install(recording: Recording) -> None:
    """Switch recording on."""
    global _recording  # noqa: PLW0603 - there is one recording in a process
    _recording = recording
    hot.set_segment(recording.segment)


def remove(recording: Recording) -> None:
    """Switch recording off, if `recording` is the one that is on."""
    global _recording  # noqa: PLW0603 - as above
    if _recording is recording:
        _recording = None
        hot.set_segment(None)


def switch_off() -> bool:
    """Switch any recording off; return whether one was on."""
    global _recording
    was_on, _recording = is_on(), None
    hot.set_segment(None)
    return was_on


def _append(key: SeriesKey, at_ns: int, value: float, layout: Layout) -> None:
    """Record what the hot path could not, or count it as dropped; raises nothing."""
    dropped: tuple[str, object] | None
    for _ in range(_TRIES):
        recording = _recording
        if recording is None:
            return
        try:
            dropped = recording.append_slowly(key, at_ns, value, layout)
        except Exception as exc:  # noqa: BLE001 - a fault here must not reach the application
            dropped = INVALID if isinstance(exc, PrefixError) else ERROR, exc
        if dropped is _REPLACED:
            continue  # another one may record now
        if dropped is not None:
            reason, cause = dropped
            recording.drop(reason, key, cause)
        return


def _packed(layout: Layout, at_ns: int, value: float, label_id: int) -> bytes | None:
    try:
        return layout.pack(at_ns, value, label_id)
    except Exception:  # noqa: BLE001 - a value's own `__float__` may raise anything
        return None


def _describe(key: object, cause: object) -> str:
    """Return a text for the log; never raises."""
    prefix, label = key[:2] if isinstance(key, tuple) else ("duration", key)
    try:
        text = f"{prefix!s:.50} {label!r:.{_MAX_CHARS}}: {cause!s:.{_MAX_CHARS}}"
    except Exception as exc:  # noqa: BLE001 - a label's or exception's own method raised
        text = f"a series without a printable name ({type(exc).__name__})"
    return text


hot.set_slow_path(_append)
