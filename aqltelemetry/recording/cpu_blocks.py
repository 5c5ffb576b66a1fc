"""Blocks that record their CPU time: what `time_block(label, cpu=True)` makes.

They are the same with and without the compiled hot path.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, TypeAlias, TypeVar

from aqltelemetry.recording.cpu_time import CpuSpan, append_cpu_time
from aqltelemetry.recording.recorder import (
    append_duration,
    append_failure,
    is_on,
    now_ns,
    set_cpu_blocks,
    time_block,
)
from aqltelemetry.recording.reentrancy import FINISHED, OverlappingEntries

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Entry: TypeAlias = tuple[int, CpuSpan]
Decorate: TypeAlias = Callable[[Callable[_P, _R], str], Callable[_P, _R]]
_decorate: Decorate[..., Any]


def set_cpu_decorator(decorate: Decorate[..., Any]) -> None:
    """Set what a block with CPU time does when it decorates a function."""
    global _decorate  # noqa: PLW0603 - as for blocks without
    _decorate = decorate


class CpuTimeBlock(time_block):
    """A block that records its duration and its CPU time.

    `_entered` is None while it is not entered; the single entry; or all entries once there were
    two at a time.
    """

    __slots__ = ()
    _entered: _Entry | OverlappingEntries[_Entry] | None  # type: ignore[assignment]

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return a function that is timed, as by `time_it(label=..., cpu=True)`."""
        return _decorate(function, self._label)

    def __enter__(self) -> None:
        if is_on():
            self._begin()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(exc_type)

    def __aenter__(self) -> Coroutine[Any, Any, None]:
        if is_on():
            self._begin()
        return FINISHED

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        self._end(exc_type)
        return FINISHED

    def take(self) -> tuple[int, int | None] | None:
        """Leave a block that was entered once, without a record.

        Return its duration and its CPU time so far, in nanoseconds; None if it was not entered.
        """
        entered, self._entered = self._entered, None
        if type(entered) is not tuple:
            return None
        self._closed()
        cpu_ns = entered[1].spent_ns()
        return now_ns() - entered[0], cpu_ns

    def _take_start(self) -> int | None:
        entered, self._entered = self._entered, None
        self._closed()
        return entered[0] if type(entered) is tuple else None

    def _begin(self) -> None:
        entry = now_ns(), CpuSpan()
        # No call from here to where it is written, as in the hot path.
        if self._entered is None:
            self._entered = entry
            self._opened()
        else:
            self._begin_again(entry)

    def _begin_again(self, entry: _Entry) -> None:
        entries: OverlappingEntries[_Entry] = OverlappingEntries()
        # As above: no call from here to the last of these lines but one.
        entered = self._entered
        if entered.__class__ is OverlappingEntries:
            entries = entered
        else:
            entries.first = entered  # type: ignore[assignment]
            self._entered = entries
        entries.enter(entry)
        self._closed()

    def _end(self, exc_type: type[BaseException] | None) -> None:
        entered = self._entered
        if entered.__class__ is tuple:
            self._entered = None
            self._closed()
        elif entered is None:
            return
        entry: _Entry | None = (
            entered.leave() if isinstance(entered, OverlappingEntries) else entered
        )
        if entry is None:
            return
        start_ns, span = entry
        cpu_ns = span.spent_ns()
        end_ns = now_ns()
        append_duration(self._label, end_ns, end_ns - start_ns)
        append_cpu_time(self._label, end_ns, end_ns - start_ns, cpu_ns)
        if exc_type is not None:
            append_failure(self._label, exc_type, end_ns, end_ns - start_ns)


set_cpu_blocks(CpuTimeBlock)
