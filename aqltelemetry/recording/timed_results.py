"""Times results that are still running when the function has returned.

A coroutine, generator, context manager or other awaitable object is timed while it runs;
a future is observed until it is done. Nothing here raises into the application: what can't
be timed is returned as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from types import AsyncGeneratorType, CoroutineType, GeneratorType, coroutine
from typing import Any, TypeAlias

from aqltelemetry.recording.cpu_blocks import CpuTimeBlock
from aqltelemetry.recording.cpu_time import StepMeter, append_cpu_time, count_unknown
from aqltelemetry.recording.recorder import (
    append_duration,
    append_failure,
    is_on,
    now_ns,
    time_block,
)
from aqltelemetry.recording.timed_proxies import has_method, proxied

_MakeRun: TypeAlias = Callable[[], AbstractContextManager[None]]
_Follow: TypeAlias = Callable[[Any, str, time_block], Any]
_ASYNC_CONTEXT_MANAGER: type = type(asynccontextmanager(lambda: None)())  # type: ignore[arg-type,return-value]
_CONTEXT_MANAGER: type = type(contextmanager(lambda: None)())  # type: ignore[arg-type,return-value]
_MAX_PLAIN_TYPES = 256

# By id, since a metaclass may make types that can't be hashed; the types are kept alive, so
# that no other one gets their id.
PLAIN_TYPES: dict[int, type] = {
    id(each): each for each in (type(None), bool, int, float, str, bytes, list, dict, tuple, set)
}
"""Types of results that are finished when a function has returned, by the id of the type."""


def follow(result: Any, label: str, block: time_block) -> Any:
    """Time a result until it ends, if it runs on; return the result or its wrapper.

    `block` was entered before the function was called. Left as it is, it records the call.
    """
    cls = type(result)
    try:
        way = _way(cls)
        if way is not None:
            return way(result, label, block)
    except Exception:  # noqa: BLE001 - the result belongs to the application
        return result
    if len(PLAIN_TYPES) < _MAX_PLAIN_TYPES:
        PLAIN_TYPES[id(cls)] = cls
    return result


def _way(cls: type) -> _Follow | None:
    way: _Follow | None = None
    if cls is CoroutineType:
        way = _follow_coroutine
    elif cls is GeneratorType:
        way = _follow_generator
    elif cls is AsyncGeneratorType:
        way = _follow_async_generator
    elif issubclass(cls, _ASYNC_CONTEXT_MANAGER | _CONTEXT_MANAGER):
        way = _follow_context_manager
    elif has_method(cls, "add_done_callback") or has_method(cls, "addBoth"):
        way = _follow_future
    elif has_method(cls, "__await__") or has_method(cls, "__aenter__"):
        way = _follow_object
    return way


def generator_function(
    make: Callable[..., Generator[Any, Any, Any]], make_run: _MakeRun
) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function that yields the same as another one, within a run."""

    def timed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        run = make_run()
        with run:
            return (yield from _steps(run, make(*args, **kwargs)))

    return timed


def async_generator_function(
    make: Callable[..., AsyncGenerator[Any, Any]], make_run: _MakeRun
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an async generator function that yields the same as another one, within a run."""

    async def timed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = make(*args, **kwargs)
        run = make_run()
        with run:
            try:
                step: Any = generator.asend(None)
                while True:
                    try:
                        item = await _steps(run, step)
                    except StopAsyncIteration:
                        return
                    try:
                        step = generator.asend((yield item))
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - it is for the generator
                        step = generator.athrow(thrown)
            finally:
                await _steps(run, generator.aclose())

    return timed


class Run:
    """Times the run of a statement, and adds the time of its preparation."""

    __slots__ = ("_label", "_lead_ns", "_start_ns")

    def __init__(self, label: str, lead_ns: int = 0) -> None:
        self._label = label
        self._lead_ns = lead_ns
        self._start_ns: int | None = None

    def __enter__(self) -> None:
        self._start_ns = now_ns() if is_on() else None

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if self._start_ns is not None:
            end_ns = now_ns()
            _append(self._label, exc_type, end_ns, end_ns - self._start_ns + self._lead_ns)


class MeteredRun(Run):
    """Times a run whose steps it measures, and records their CPU time too."""

    __slots__ = ("_block", "_meter")

    def __init__(self, label: str, lead_ns: int = 0, lead_cpu_ns: int = 0) -> None:
        super().__init__(label, lead_ns)
        self._meter = StepMeter(lead_cpu_ns)
        self._block = time_block(label)

    def __enter__(self) -> None:
        super().__enter__()
        if self._start_ns is not None:
            self._block._opened()  # noqa: SLF001 - a stall says which blocks were open

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if self._start_ns is not None:
            end_ns = now_ns()
            duration_ns = end_ns - self._start_ns + self._lead_ns
            append_duration(self._label, end_ns, duration_ns)
            self._block._closed()  # noqa: SLF001 - as above
            append_cpu_time(self._label, end_ns, duration_ns, self._meter.spent_ns())
            if exc_type is not None:
                append_failure(self._label, exc_type, end_ns, duration_ns)

    def steps(self, inner: Any) -> Any:
        """Return what does the same as a coroutine or generator, and measures its steps."""
        return inner if self._start_ns is None else self._meter.run_steps(inner)


def _steps(run: AbstractContextManager[None], inner: Any) -> Any:
    return run.steps(inner) if type(run) is MeteredRun else inner


class _Unstarted:
    """Holds a coroutine that its wrapper has not started.

    A wrapper that is never awaited emits a warning; a second one, for the wrapped coroutine,
    would be wrong.
    """

    __slots__ = ("_coroutine",)

    def __init__(self, held: Coroutine[Any, Any, Any]) -> None:
        self._coroutine: Coroutine[Any, Any, Any] | None = held

    def take(self) -> Awaitable[Any]:
        taken, self._coroutine = self._coroutine, None
        if taken is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        return taken

    def __del__(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()


def _append(label: str, exc_type: object, end_ns: int, duration_ns: int) -> None:
    append_duration(label, end_ns, duration_ns)
    if exc_type is not None:
        append_failure(label, exc_type, end_ns, duration_ns)


def _lead_ns(block: time_block) -> int:
    """Return how long the call took, or 0 for a call that is not recorded."""
    start_ns = block._take_start()  # noqa: SLF001 - which is there for this
    return 0 if start_ns is None else now_ns() - start_ns


def _run_after(label: str, block: time_block) -> Run:
    """Return the run of a result, to which the time of the call counts too."""
    if not isinstance(block, CpuTimeBlock):
        return Run(label, _lead_ns(block))
    lead_ns, lead_cpu_ns = block.take() or (0, 0)
    if lead_cpu_ns is None:
        count_unknown()
        return Run(label, lead_ns)
    return MeteredRun(label, lead_ns, lead_cpu_ns)


def _without_cpu_time(block: time_block) -> None:
    """Count a result whose CPU time is unknown, if it is wanted."""
    if isinstance(block, CpuTimeBlock) and is_on():
        count_unknown()


def _named_after(wrapper: Any, wrapped: Any) -> Any:
    wrapper.__name__, wrapper.__qualname__ = wrapped.__name__, wrapped.__qualname__
    return wrapper


def _follow_coroutine(result: CoroutineType[Any, Any, Any], label: str, block: time_block) -> Any:
    if inspect.getcoroutinestate(result) != inspect.CORO_CREATED:
        return result
    run = _run_after(label, block)
    return _named_after(_run_coroutine(_Unstarted(result), run), result)


async def _run_coroutine(unstarted: _Unstarted, run: Run) -> Any:
    with run:
        return await _steps(run, unstarted.take())


def _follow_generator(result: GeneratorType[Any, Any, Any], label: str, block: time_block) -> Any:
    if inspect.getgeneratorstate(result) != inspect.GEN_CREATED:
        return result
    run = _run_after(label, block)
    timed: Callable[..., Any] = generator_function(lambda: result, lambda: run)
    if result.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        timed = coroutine(timed)
    return _named_after(timed(), result)


def _follow_async_generator(
    result: AsyncGeneratorType[Any, Any], label: str, block: time_block
) -> Any:
    run = _run_after(label, block)
    return _named_after(async_generator_function(lambda: result, lambda: run)(), result)


def _follow_context_manager(result: Any, label: str, block: time_block) -> Any:
    """Time from entry to exit, by wrapping the generator of the context manager."""
    block._take_start()  # noqa: SLF001 - as above
    is_async = isinstance(result, _ASYNC_CONTEXT_MANAGER)
    make_run: Callable[[], Any] = lambda: Run(label)  # noqa: E731 - one of two
    if isinstance(block, CpuTimeBlock):
        make_run = lambda: CpuTimeBlock(label)  # noqa: E731
    wrap: Callable[..., Any] = async_generator_function if is_async else generator_function
    generator = result.gen
    result.gen = wrap(lambda: generator, make_run)()
    # One that decorates a function makes a generator for each of its calls.
    result.func = wrap(result.func, make_run)
    return result


def _follow_future(result: Any, label: str, block: time_block) -> Any:
    """Time from the call until the future is done or cancelled."""
    done = getattr(result, "done", None)
    if done is not None and done():
        return result
    start_ns = block._take_start()  # noqa: SLF001 - as above
    if start_ns is None:
        return result

    _without_cpu_time(block)

    def settled(outcome: Any) -> Any:
        end_ns = now_ns()
        _append(label, _exception_type(outcome), end_ns, end_ns - start_ns)
        return outcome  # a Deferred hands it on

    add = getattr(result, "add_done_callback", None) or result.addBoth
    try:
        add(settled)
    except Exception:  # noqa: BLE001 - such as of a future of another event loop
        settled(None)
    return result


def _exception_type(outcome: Any) -> object:
    """Return the type of the exception that a done future holds, or that a Deferred gives."""
    try:
        if type(outcome).__name__ == "Failure":
            return outcome.type
        # Not by `exception()`, after which asyncio would not log that nobody retrieved it.
        exc = getattr(outcome, "_exception", None)
    except Exception:  # noqa: BLE001 - the outcome belongs to the application
        return None
    return None if exc is None else type(exc)


def _follow_object(result: Any, label: str, block: time_block) -> Any:
    _without_cpu_time(block)
    lead_ns = _lead_ns(block)
    return proxied(result, label, lambda: Run(label, lead_ns))
