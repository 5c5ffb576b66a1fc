"""The hot path: an observation becomes a record in the current segment.

Nothing here waits, locks, logs or raises into the application: it may run on any
thread, in a signal handler or collector callback, and in the middle of itself.
"""

from __future__ import annotations

import struct
import threading
from asyncio import Task, current_task
from collections.abc import Coroutine, Generator, Mapping
from types import TracebackType, coroutine
from typing import Any, Protocol, TypeAlias
from zlib import crc32

from aqltelemetry.clock import Anchor, monotonic_ns
from aqltelemetry.drops import Drops
from aqltelemetry.errors import PrefixError
from aqltelemetry.journal.format import DURATION_LAYOUT, VALUE_LAYOUT, Layout
from aqltelemetry.journal.marks import ERROR, INVALID, NO_SEGMENT
from aqltelemetry.journal.segment import Key, Segment
from aqltelemetry.observation import CUSTOM

_TRIES = 4
_pack_duration, _store_duration = DURATION_LAYOUT


class Feeder(Protocol):
    """Provides a recording with segments."""

    def wake(self) -> None:
        """Be told, on any thread and in any context, that a segment is full."""
        ...

    def successor(self, full: Segment) -> Segment | None:
        """Return the segment after `full`, which has none, if it can be had at once."""
        ...


class Recording:
    """What one start of recording owns of the hot path: segment, anchor, drops."""

    def __init__(self, feeder: Feeder, first: Segment, anchor: Anchor) -> None:
        self.feeder = feeder
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
        global _current  # noqa: PLW0603 - a global is what the hot path reads fastest
        successor = full.successor or self.feeder.successor(full)
        if successor is None:
            return False
        successor.append_anchor(self.anchor)
        self.segment = successor
        self.dropping.carry(successor)
        _current = successor
        if _recording is not self:  # switched off, or over, since this began
            _current = _recording.segment if _recording else None
        self.feeder.wake()
        return True

    def append(self, key: Key, value: float) -> None:
        """Record a value of a series, taken now."""
        if _recording is self:
            _append(key, monotonic_ns(), value, VALUE_LAYOUT)


_current: Segment | None = None
_recording: Recording | None = None


def install(recording: Recording) -> None:
    """Switch recording on."""
    global _current, _recording  # noqa: PLW0603
    _recording = recording
    _current = recording.segment


def remove(recording: Recording) -> None:
    """Switch recording off, if it is this one that is on."""
    global _current, _recording  # noqa: PLW0603
    if _recording is recording:
        _recording = None
        _current = None


def is_on() -> bool:
    """Say whether observations are recorded."""
    return _current is not None


def append_duration(label: str, end_ns: int, duration_ns: int) -> None:
    """Record a duration that ended at a monotonic time."""
    segment = _current
    if segment is None:
        return
    try:
        label_id = segment.ids[label]
        body = _pack_duration(end_ns, duration_ns, label_id)
        at = next(segment.slots)
        _store_duration(segment.map, at, end_ns, duration_ns, label_id, crc32(body, at))
    except Exception:  # noqa: BLE001 - the application must never see a fault of ours
        _append(label, end_ns, duration_ns, DURATION_LAYOUT)


def record(label: str, measurement: float, prefix: str = CUSTOM) -> None:
    """Record a value of one's own, taken now, for the files `<prefix>.*.csv`.

    Never raises: what can't be recorded is counted as dropped.
    """
    if _current is not None:
        _append((prefix, label), monotonic_ns(), measurement, VALUE_LAYOUT)


def _append(key: Key, at_ns: int, value: float, layout: Layout) -> None:
    try:
        for _ in range(_TRIES):
            segment, recording = _current, _recording
            if segment is None or recording is None:
                return
            label_id = segment.id_of(key)
            if label_id is not None:
                # Packed before a slot is taken: a value that can't be must not leave a hole.
                body = layout.pack(at_ns, value, label_id)
                at = next(segment.slots, None)
                if at is not None:
                    layout.store(segment.map, at, at_ns, value, label_id, crc32(body, at))
                    return
            if not recording.advance(segment):
                break
        _drop(NO_SEGMENT)
    except (OverflowError, PrefixError, struct.error):
        _drop(INVALID)
    except Exception:  # noqa: BLE001 - as above
        _drop(ERROR)


def _drop(reason: str) -> None:
    recording = _recording
    if recording is not None:
        recording.drop(reason)


def _nothing() -> Generator[Any, None, None]:
    yield from ()


# A generator that has ended may be awaited again and again, at the cost of a call,
# and no coroutine is made. Its type is said to be what contextlib expects.
_FINISHED: Coroutine[Any, Any, None] = coroutine(_nothing)()  # type: ignore[no-untyped-call]
next(_FINISHED, None)  # type: ignore[call-overload]

_Owner: TypeAlias = tuple[int, Task[Any] | None]


class time_block:  # noqa: N801 - used as a statement's word, like a function
    """Time a block of code: `with time_block(label):` or `async with time_block(label):`.

    The duration is recorded when the block is left, in whatever way, and what it
    raises passes through. An object may be entered again while it is entered,
    from other tasks and threads too: each entry is measured by itself.
    Nothing is recorded for a block that was entered while recording was off.
    """

    # None while not entered; the start of a single entry; all entries once there
    # were two at a time. No call stands between reading and writing it, so no
    # other thread comes in between: CPython changes threads at calls and loops.
    __slots__ = ("_entered", "_label")
    _entered: int | _Entries | None

    def __init__(self, label: str) -> None:
        self._label = label
        self._entered = None

    def __enter__(self) -> None:
        if _current is not None:
            now_ns = monotonic_ns()
            if self._entered is None:
                self._entered = now_ns
            else:
                self._enter_again(now_ns)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_ns = monotonic_ns()
        entered = self._entered
        if entered.__class__ is int:
            self._entered = None
            append_duration(self._label, end_ns, end_ns - entered)
        elif entered is not None:
            entered.leave(self._label, end_ns)  # type: ignore[union-attr]

    def __aenter__(self) -> Coroutine[Any, Any, None]:
        if _current is not None:
            now_ns = monotonic_ns()
            if self._entered is None:
                self._entered = now_ns
            else:
                self._enter_again(now_ns)
        return _FINISHED

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        end_ns = monotonic_ns()
        entered = self._entered
        if entered.__class__ is int:
            self._entered = None
            append_duration(self._label, end_ns, end_ns - entered)
        elif entered is not None:
            entered.leave(self._label, end_ns)  # type: ignore[union-attr]
        return _FINISHED

    def _enter_again(self, now_ns: int) -> None:
        entries = _Entries()
        # As above: no call from here to the last of these lines but one.
        entered = self._entered
        if entered.__class__ is _Entries:
            entries = entered
        else:
            entries.first_ns = entered  # type: ignore[assignment]
            self._entered = entries
        entries.enter(now_ns)


class _Entries:
    """The entries of a block that is or was entered more than once at a time.

    The first was made without noting by whom; whoever leaves and owns no other
    entry is its owner. An owner's entries are left last in, first out.
    """

    __slots__ = ("_starts_ns", "first_ns")

    def __init__(self) -> None:
        self.first_ns: int | None = None
        self._starts_ns: dict[_Owner, list[int]] = {}

    def enter(self, now_ns: int) -> None:
        self._starts_ns.setdefault(_owner(), []).append(now_ns)

    def leave(self, label: str, end_ns: int) -> None:
        owner = _owner()
        starts_ns = self._starts_ns.get(owner)
        if starts_ns:
            start_ns: int | None = starts_ns.pop()
            if not starts_ns:
                del self._starts_ns[owner]
        else:
            start_ns, self.first_ns = self.first_ns, None
        if start_ns is not None:
            append_duration(label, end_ns, end_ns - start_ns)


def _owner() -> _Owner:
    try:
        return threading.get_ident(), current_task()
    except RuntimeError:  # no event loop runs on this thread
        return threading.get_ident(), None
