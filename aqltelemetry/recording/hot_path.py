"""The hot path: a timed block becomes a record in the current segment.

This is the pure twin; `_hot_path.pyx` is the compiled one, and does the same. A new label, a full
segment or a fault takes the slow path, which the recorder sets.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import get_ident
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar
from zlib import crc32

from aqltelemetry.journal.format import DURATION_LAYOUT, VALUE_LAYOUT, Layout
from aqltelemetry.journal.labels import SeriesKey
from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import CUSTOM
from aqltelemetry.recording.failures import failure_label
from aqltelemetry.recording.reentrancy import FINISHED, OverlappingEntries
from aqltelemetry.system import clock as clocks
from aqltelemetry.system.async_backend import asyncio_task

_P = ParamSpec("_P")
_R = TypeVar("_R")
SlowPath: TypeAlias = Callable[[SeriesKey, int, float, Layout], None]
"""Records what the hot path can't, and raises nothing."""


class Decorate(Protocol):
    """Return a function that is timed under a label."""

    def __call__(self, function: Callable[_P, _R], label: str, /) -> Callable[_P, _R]:
        """Wrap the function."""
        ...


_pack_duration, _store_duration = DURATION_LAYOUT
_pack_value, _store_value = VALUE_LAYOUT
_segment: Segment | None = None
_monotonic_ns: Callable[[], int] = clocks.monotonic_ns
_slow: SlowPath
_decorate: Decorate
_cpu_block: type[time_block]
_MOST_OPEN = 10_000
_open: dict[object, tuple[str, int, int]] | None = None
"""The open blocks, the first entered first: label, thread and task; None if not followed."""


def set_slow_path(slow: SlowPath) -> None:
    """Set the function that records what the hot path can't."""
    global _slow  # noqa: PLW0603 - a global is what the hot path reads fastest
    _slow = slow


def set_decorator(decorate: Decorate) -> None:
    """Set what a block does when it decorates a function."""
    global _decorate  # noqa: PLW0603 - as above
    _decorate = decorate


def set_cpu_blocks(kind: type[time_block]) -> None:
    """Set the class of the blocks that record their CPU time too."""
    global _cpu_block  # noqa: PLW0603 - as above
    _cpu_block = kind


def set_clock(clock: Callable[[], int] | None) -> None:
    """Set the clock, which returns nanoseconds; None for the monotonic clock."""
    global _monotonic_ns  # noqa: PLW0603 - as above
    _monotonic_ns = clock or clocks.monotonic_ns


def now_ns() -> int:
    """Return the time of the clock that durations are measured by, in nanoseconds."""
    return _monotonic_ns()


def set_segment(segment: Segment | None) -> None:
    """Record into a segment from now on; None switches recording off."""
    global _segment  # noqa: PLW0603 - as above
    _segment = segment


def current_segment() -> Segment | None:
    """Return the segment that is recorded into; None if recording is off."""
    return _segment


def is_on() -> bool:
    """Return whether observations are recorded."""
    return _segment is not None


def follow_blocks(is_wanted: bool, /) -> None:
    """Keep from now on which blocks are open, for `open_blocks`, or stop it."""
    global _open  # noqa: PLW0603 - as above
    if not is_wanted:
        _open = None
    elif _open is None:
        _open = {}


def open_blocks(thread: int, task: int | None) -> list[str]:
    """Return the labels of the blocks that a task on a thread is in, the outermost first.

    Blocks that were entered before they were followed are missing, and so are objects that were
    entered again before they were left.

    Args:
        thread: The identifier of the thread.
        task: The `id` of the task of asyncio; 0 outside of tasks; None for all on the thread.
    """
    opened = [] if _open is None else [*_open.values()]
    return [label for label, at, of in opened if at == thread and task in (None, of)]


def _note_open(block: object, label: str) -> None:
    opened = _open
    if opened is not None and len(opened) < _MOST_OPEN:
        task = asyncio_task()
        opened[block] = label, get_ident(), 0 if task is None else id(task)


def _note_closed(block: object) -> None:
    opened = _open
    if opened is not None:
        opened.pop(block, None)


def append_duration(label: SeriesKey, end_ns: int, duration_ns: int) -> None:
    """Record a duration that ended at a monotonic time."""
    segment = _segment
    if segment is None:
        return
    try:
        label_id = segment.ids[label]
        body = _pack_duration(end_ns, duration_ns, label_id)
        at = next(segment.slots)
        _store_duration(segment.map, at, end_ns, duration_ns, label_id, crc32(body, at))
    except Exception:  # noqa: BLE001 - the application must never see a fault in aqltelemetry
        _slow(label, end_ns, duration_ns, DURATION_LAYOUT)


def append_failure(label: str, exc_type: object, end_ns: int, duration_ns: int) -> None:
    """Record a duration under `<label> failed` if the exception that ended it is a failure."""
    name = failure_label(label, exc_type)
    if name is not None:
        append_duration(name, end_ns, duration_ns)  # type: ignore[arg-type]


def record(label: str, measurement: float, prefix: str = CUSTOM) -> None:
    """Record a value with the current time, for the files `<prefix>.*.csv`.

    Nothing is recorded while recording is off.

    Args:
        label: Names the time series; at most 200 bytes of UTF-8 are kept.
        measurement: The value, in any unit; an int or a float that fits into 64 bits.
        prefix: Starts the names of the files: 1 to 40 letters, digits, `_` and `-`, not starting
            with `-`, and none of `duration`, `runtime`, `account`, `profiler`, `cpu_time`,
            `stall`, `stall-details` and `removed`.

    Returns:
        None. Never raises: an observation that can't be recorded is counted as dropped.

    Example:
        record("queue length", len(queue))
        record("order value", 12.5, prefix="shop")
    """
    segment = _segment
    if segment is None:
        return
    now_ns = _monotonic_ns()
    try:
        label_id = segment.ids[prefix, label]
        body = _pack_value(now_ns, measurement, label_id)
        at = next(segment.slots)
        _store_value(segment.map, at, now_ns, measurement, label_id, crc32(body, at))
    except Exception:  # noqa: BLE001 - as above
        _slow((prefix, label), now_ns, measurement, VALUE_LAYOUT)


def append_value(key: SeriesKey, measurement: float) -> None:
    """Record a value of a series, taken now, by its key."""
    segment = _segment
    if segment is None:
        return
    now_ns = _monotonic_ns()
    try:
        label_id = segment.ids[key]
        body = _pack_value(now_ns, measurement, label_id)
        at = next(segment.slots)
        _store_value(segment.map, at, now_ns, measurement, label_id, crc32(body, at))
    except Exception:  # noqa: BLE001 - as above
        _slow(key, now_ns, measurement, VALUE_LAYOUT)


class time_block:  # noqa: N801 - used as a statement's word, like a function
    """Time a block of code: `with time_block(label):` or `async with time_block(label):`.

    The duration, in seconds with nanosecond resolution, is recorded when the block ends, also if
    an exception ends it; the exception is not changed. An `Exception` counts as a failure: the
    duration is then recorded under `<label> failed` too. The object may be entered again before
    it is left, by other tasks and threads too: each entry is timed separately. Nothing is
    recorded for a block that was entered while recording was off.

    With `cpu`, the CPU time is recorded too, under the same label in `cpu_time.*.csv`: the seconds
    in which the thread ran on a processor in the block. A block in which a coroutine is suspended
    has none, unless `time_it(cpu=True)` or the option `with_cpu_time` measures the coroutine.

    Args:
        label: Names the time series in `duration.*.csv`; at most 200 bytes of UTF-8 are kept.
        cpu: Whether to record the CPU time too.

    Returns:
        A context manager for `with` and `async with`, which gives None. As a decorator,
        `@time_block(label)` times a function, as `@time_it(label=label)` does, with the same `cpu`.

    Raises:
        TypeError: If it decorates an object that is no function.

    Example:
        with time_block("parse"):
            parse(text)
        async with time_block("db query"):
            await query()
    """

    # None while not entered; the start of a single entry; all entries once there
    # were two at a time. No call stands between reading and writing it, so no
    # other thread comes in between: CPython changes threads at calls and loops.
    __slots__ = ("_entered", "_label")
    _entered: int | OverlappingEntries[int] | None

    def __init__(self, label: str, *, cpu: bool = False) -> None:
        self._label = label
        self._entered = None
        if cpu:
            self.__class__ = _cpu_block

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return a function that is timed, as by `time_it(label=...)`."""
        return _decorate(function, self._label)

    def __enter__(self) -> None:
        if _segment is not None:
            now_ns = _monotonic_ns()
            if self._entered is None:
                self._entered = now_ns
                if _open is not None:
                    _note_open(self, self._label)
            else:
                self._enter_again(now_ns)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = self._entered
        if entered is None:
            return
        end_ns = _monotonic_ns()
        # As above: no call from here to where it is written.
        entered = self._entered
        if entered.__class__ is int:
            self._entered = None
            if _open is not None:
                _note_closed(self)
            append_duration(self._label, end_ns, end_ns - entered)
            if exc_type is not None:
                append_failure(self._label, exc_type, end_ns, end_ns - entered)
        elif entered is not None:
            self._leave_one(entered, exc_type, end_ns)  # type: ignore[arg-type]

    def __aenter__(self) -> Coroutine[Any, Any, None]:
        if _segment is not None:
            now_ns = _monotonic_ns()
            if self._entered is None:
                self._entered = now_ns
                if _open is not None:
                    _note_open(self, self._label)
            else:
                self._enter_again(now_ns)
        return FINISHED

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        entered = self._entered
        if entered is None:
            return FINISHED
        end_ns = _monotonic_ns()
        entered = self._entered
        if entered.__class__ is int:
            self._entered = None
            if _open is not None:
                _note_closed(self)
            append_duration(self._label, end_ns, end_ns - entered)
            if exc_type is not None:
                append_failure(self._label, exc_type, end_ns, end_ns - entered)
        elif entered is not None:
            self._leave_one(entered, exc_type, end_ns)  # type: ignore[arg-type]
        return FINISHED

    def _take_start(self) -> int | None:
        """Leave a block that was entered once, without a record; return when it was entered."""
        entered, self._entered = self._entered, None
        _note_closed(self)
        return entered if isinstance(entered, int) else None

    def _opened(self) -> None:
        """Note that the block is open, if open blocks are followed."""
        _note_open(self, self._label)

    def _closed(self) -> None:
        _note_closed(self)

    def _enter_again(self, now_ns: int) -> None:
        entries: OverlappingEntries[int] = OverlappingEntries()
        # As above: no call from here to the last of these lines but one.
        entered = self._entered
        if entered.__class__ is OverlappingEntries:
            entries = entered
        else:
            entries.first = entered  # type: ignore[assignment]
            self._entered = entries
        entries.enter(now_ns)
        _note_closed(self)

    def _leave_one(self, entries: OverlappingEntries[int], exc_type: object, end_ns: int) -> None:
        start_ns = entries.leave()
        if start_ns is not None:
            append_duration(self._label, end_ns, end_ns - start_ns)
            if exc_type is not None:
                append_failure(self._label, exc_type, end_ns, end_ns - start_ns)
