"""CPU time: how much of a block, a function or a request ran on a processor.

The clock is that of the processor time of the running thread. Between two steps of a coroutine,
the thread runs other tasks, whose time must not count. So a coroutine is run by a `StepMeter`,
which adds up the time of its steps. A block within these steps reads that meter. A block of a
coroutine without a meter is measured if the coroutine was not suspended in it.
"""

from __future__ import annotations

import sys
import threading
from asyncio import AbstractEventLoop, _get_running_loop
from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType, coroutine
from typing import Any, TypeAlias, TypeVar

from aqltelemetry.journal.labels import MAX_LABELS
from aqltelemetry.journal.segment import AtomicCounter
from aqltelemetry.observation import CPU_TIME, MAX_LABEL_BYTES, Kind, Series
from aqltelemetry.recording.recorder import append_duration
from aqltelemetry.recording.reentrancy import awaited
from aqltelemetry.system.async_backend import other_task
from aqltelemetry.system.clock import thread_cpu_ns
from aqltelemetry.system.unpatched import are_greenlets

_T = TypeVar("_T")
_Steps: TypeAlias = Coroutine[Any, Any, _T] | Generator[Any, Any, _T]
_unknown = AtomicCounter()
_keys: dict[str, Series] = {}


class StepMeter:
    """Adds up the CPU time of the steps of a coroutine or generator.

    `lead_ns` is the CPU time that counts already.
    """

    __slots__ = ("_depth", "_since_ns", "_total_ns")

    def __init__(self, lead_ns: int = 0) -> None:
        self._total_ns = lead_ns
        self._depth = 0
        self._since_ns: int | None = None

    def spent_ns(self) -> int:
        """Return the CPU time so far, with that of a step that runs now."""
        return self.spent_until_ns(thread_cpu_ns())

    def spent_until_ns(self, cpu_ns: int) -> int:
        """Return the CPU time until the thread's clock showed `cpu_ns`, in the present step."""
        since_ns = self._since_ns
        return self._total_ns if since_ns is None else self._total_ns + cpu_ns - since_ns

    def run(self, awaitable: Awaitable[_T]) -> Awaitable[_T]:
        """Return an awaitable that awaits another one and measures its steps."""
        steps: Any = awaitable if type(awaitable) is CoroutineType else awaited(awaitable)
        return self.run_steps(steps)

    @coroutine
    def run_steps(self, steps: _Steps[_T]) -> Generator[Any, Any, _T]:
        """Do the same as `yield from steps`, and measure each step."""
        step: Any = steps.send
        given: Any = None
        while True:
            outer = self._begin_step()
            try:
                produced = step(given)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                self._end_step(outer)
                step = given = None  # a reference cycle with an exception would stay
            try:
                given = yield produced
                step = steps.send
            except GeneratorExit:
                outer = self._begin_step()
                try:
                    steps.close()
                finally:
                    self._end_step(outer)
                raise
            except BaseException as exc:  # noqa: BLE001 - it is for the coroutine
                step, given = steps.throw, exc

    def _begin_step(self) -> StepMeter | None:
        """Begin to measure a step, unless it is a part of one; return the meter around it."""
        outer, _HERE.meter = _HERE.meter, self
        self._depth += 1
        if self._depth == 1:
            self._since_ns = thread_cpu_ns()
        return outer

    def _end_step(self, outer: StepMeter | None) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._total_ns = self.spent_ns()
            self._since_ns = None
        _HERE.meter = outer


class _StepMark:
    """Whether the step of an event loop in which it was made goes on."""

    __slots__ = ("_loop",)

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop: AbstractEventLoop | None = loop
        # The loop calls this before all that is scheduled later, such as the next step of a task
        # that is suspended in this one.
        loop.call_soon(self._end)

    def goes_on_in(self, loop: AbstractEventLoop | None) -> bool:
        """Return whether the step goes on, and is one of this event loop."""
        return loop is not None and self._loop is loop

    def _end(self) -> None:
        self._loop = None


class _Here(threading.local):
    """What a thread runs."""

    meter: StepMeter | None = None
    """The innermost meter whose step runs."""
    mark: _StepMark | None = None
    """The latest mark in a step of an event loop."""


_HERE = _Here()


class CpuSpan:
    """The CPU time from now on, of code that may be in a coroutine."""

    __slots__ = ("_began_ns", "_place")

    def __init__(self) -> None:
        meter = _HERE.meter
        if meter is not None:
            self._place: StepMeter | _StepMark | int | None = meter
            self._began_ns = meter.spent_ns()
        else:
            self._place = _place()
            self._began_ns = thread_cpu_ns()

    def spent_ns(self) -> int | None:
        """Return the CPU time until now; None if it is unknown."""
        cpu_ns, place, here = thread_cpu_ns(), self._place, _HERE
        if isinstance(place, StepMeter):
            is_known = here.meter is place
            cpu_ns = place.spent_until_ns(cpu_ns)
        elif isinstance(place, _StepMark):
            is_known = here.mark is place and place.goes_on_in(_get_running_loop())
        else:
            is_known = place == threading.get_ident()
        return cpu_ns - self._began_ns if is_known else None


def append_cpu_time(label: str, end_ns: int, duration_ns: int, cpu_ns: int | None) -> None:
    """Record the CPU time of what ended at a monotonic time, or count it as unknown.

    It is at most the duration, which another clock measures.
    """
    if cpu_ns is None:
        count_unknown()
    else:
        append_duration(_key(label), end_ns, min(cpu_ns, duration_ns))


def count_unknown() -> None:
    """Count a block or function that is recorded without its CPU time."""
    _unknown.step()


def unknown_count() -> int:
    """Return how many blocks were recorded without their CPU time in this process."""
    return _unknown.value


def _place() -> _StepMark | int | None:
    """Return where code outside of meters runs: a step, else a thread; None for neither."""
    loop = _get_running_loop()
    if loop is not None:
        mark = _HERE.mark
        if mark is None or not mark.goes_on_in(loop):
            mark = _HERE.mark = _StepMark(loop)
        return mark
    return None if _may_switch() else threading.get_ident()


def _may_switch() -> bool:
    """Return whether this thread may run other greenlets or tasks in between."""
    greenlet = sys.modules.get("greenlet")
    in_greenlet = greenlet is not None and greenlet.getcurrent().parent is not None
    return in_greenlet or are_greenlets() or other_task() is not None


def _key(label: str) -> Series:
    """Return the key of the CPU times of a label; never raises."""
    try:
        return _keys[label]
    except Exception:  # noqa: BLE001 - it is new, or not hashable
        series = Series(CPU_TIME, label, Kind.NANOSECONDS)
    if type(label) is str and len(label) <= MAX_LABEL_BYTES and len(_keys) < MAX_LABELS:
        _keys[label] = series
    return series
