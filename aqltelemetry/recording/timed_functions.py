"""Timing of whole functions, of every kind."""

from __future__ import annotations

import functools
import inspect
from asyncio import coroutines
from collections.abc import Callable
from types import CoroutineType, coroutine
from typing import Any, ParamSpec, TypeVar, cast, overload

from aqltelemetry.recording.cpu_blocks import CpuTimeBlock, set_cpu_decorator
from aqltelemetry.recording.recorder import set_decorator, time_block
from aqltelemetry.recording.reentrancy import awaited
from aqltelemetry.recording.timed_results import (
    PLAIN_TYPES,
    MeteredRun,
    async_generator_function,
    follow,
    generator_function,
)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_MARK = getattr(coroutines, "_is_coroutine", None)


@overload
def time_it(function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def time_it(
    label: str, /, *, cpu: bool = False
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...


@overload
def time_it(
    *, label: str | None = None, cpu: bool = False
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...


def time_it(
    function: Callable[_P, _R] | str | None = None,
    /,
    *,
    label: str | None = None,
    cpu: bool = False,
) -> Callable[_P, _R] | Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Time each run of a function: `@time_it`, `@time_it("label")` or `@time_it(label="label")`.

    The duration, in seconds with nanosecond resolution, is recorded in `duration.*.csv`: of a
    coroutine function until it has completed; of a generator or async generator function from
    the first item requested until it ends or is closed.

    Any other function is timed until it returns, or until the object that it returns has ended:
    a coroutine, generator or other awaitable when it has run, a context manager from its entry
    to its exit, a future or task from the call until it is done. For the first three, the time
    of the call counts too, and the pause until they start does not. A returned object that is
    never awaited, entered or iterated is not recorded.

    With `cpu`, the CPU time is recorded too, under the same label in `cpu_time.*.csv`: the seconds
    in which the thread ran on a processor for it. Of a coroutine or generator function, that is the
    time of its own steps, not of what other tasks or the caller do in between. A run whose CPU time
    is unknown has only a duration, such as a returned future, task or other awaitable object.

    A run that ends by an `Exception` counts as a failure: its duration is recorded under
    `<label> failed` too. A run that is cancelled or closed does not.

    Args:
        function: The function to time, or its label as a string.
        label: Names the time series; by default `module.qualified_name`.
        cpu: Whether to record the CPU time too.

    Returns:
        The timed function, of the same kind and with the same signature; or, if only a label is
        given, a decorator that returns it.

    Raises:
        TypeError: If the object is no function, static method or class method, or if two labels
            are given.

    Example:
        @time_it
        def parse(text): ...

        @time_it("db query")
        async def query(): ...
    """
    if isinstance(function, str):
        if label is not None:
            raise TypeError("time_it takes one label")
        label, function = function, None
    if function is None:
        return lambda decorated: _timed(decorated, label, cpu=cpu)
    return _timed(function, label, cpu=cpu)


def _timed(
    function: Callable[_P, _R], label: str | None, /, *, cpu: bool = False
) -> Callable[_P, _R]:
    if isinstance(function, staticmethod | classmethod):
        # Decorated from outside: the function within is the one to time.
        return cast("Callable[_P, _R]", type(function)(_timed(function.__func__, label, cpu=cpu)))
    if isinstance(function, type) or not callable(function):
        msg = f"time_it({function!r}): must be a function or method, or a label"
        raise TypeError(msg)
    name = _default_label(function) if label is None else label
    return functools.wraps(function)(_wrapper(function, name, cpu=cpu))


def _default_label(function: Callable[..., Any]) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{getattr(inner, '__module__', None) or '?'}.{name}"


def _wrapper(function: Callable[..., Any], label: str, *, cpu: bool) -> Callable[..., Any]:
    if _is(inspect.iscoroutinefunction, function) or _is(_is_marked, function):
        return (_metered if cpu else _coroutine_function)(function, label)
    make_run = (lambda: MeteredRun(label)) if cpu else (lambda: time_block(label))
    if _is(inspect.isasyncgenfunction, function):
        return async_generator_function(function, make_run)
    if _is(inspect.isgeneratorfunction, function):
        made = generator_function(function, make_run)
        return coroutine(made) if _is(_makes_awaitables, function) else made

    make_block = CpuTimeBlock if cpu else time_block
    last: type = type(None)

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal last
        block = make_block(label)
        with block:
            result = function(*args, **kwargs)
            # Nearly always a function returns what it did before.
            if result is None or type(result) is last:
                return result
            if id(type(result)) in PLAIN_TYPES:
                last = type(result)
                return result
            return follow(result, label, block)

    return timed


def _is(kind: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    """Return whether a function is of a kind; a partial or an object, whether what it calls is."""
    while isinstance(function, functools.partial):
        function = function.func
    return kind(function) or (
        not inspect.isroutine(function) and kind(getattr(type(function), "__call__", None))  # noqa: B004
    )


def _is_marked(function: Any) -> bool:
    # How compiled coroutine functions, and those of asgiref on Python 3.11, are known.
    return _MARK is not None and getattr(function, "_is_coroutine", None) is _MARK


def _coroutine_function(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    async def timed(*args: Any, **kwargs: Any) -> Any:
        with time_block(label):
            return await function(*args, **kwargs)

    return timed


def _metered(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    async def timed(*args: Any, **kwargs: Any) -> Any:
        run = MeteredRun(label)
        with run:
            inner = function(*args, **kwargs)
            is_coroutine = type(inner) is CoroutineType
            return await run.steps(inner if is_coroutine else awaited(inner))

    return timed


def _makes_awaitables(function: Any) -> bool:
    # By `types.coroutine`.
    code = getattr(function, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE)


set_decorator(_timed)
set_cpu_decorator(functools.partial(_timed, cpu=True))
