"""Timing of whole functions, of every kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, ParamSpec, TypeVar, cast, overload

from aqltelemetry.recorder import time_block

_P = ParamSpec("_P")
_R = TypeVar("_R")


@overload
def time_it(function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def time_it(*, label: str | None = None) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...


def time_it(
    function: Callable[_P, _R] | None = None, /, *, label: str | None = None
) -> Callable[_P, _R] | Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Time each run of a function: `@time_it`, `@time_it()` or `@time_it(label=...)`.

    `label` is `module.qualified_name` by default. The duration of a coroutine
    function is its run to completion, that of a generator or async generator
    function from the first item asked for to its end or closing. The function
    stays of its kind, with its signature and type.

    Raises TypeError for what is not a function, a static or a class method.
    """
    if function is None:
        return lambda decorated: _timed(decorated, label)
    return _timed(function, label)


def _timed(function: Callable[_P, _R], label: str | None) -> Callable[_P, _R]:
    if isinstance(function, staticmethod | classmethod):
        # Decorated from outside: the function within is the one to time.
        return cast("Callable[_P, _R]", type(function)(_timed(function.__func__, label)))
    if isinstance(function, type) or not callable(function):
        msg = f"time_it({function!r}): must be a function or method"
        raise TypeError(msg)
    name = _default_label(function) if label is None else label
    return functools.wraps(function)(_wrapper(function, name))


def _default_label(function: Callable[..., Any]) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{getattr(inner, '__module__', None) or '?'}.{name}"


def _wrapper(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):
        return _coroutine_function(function, label)
    if inspect.isasyncgenfunction(function):
        return _async_generator_function(function, label)
    if inspect.isgeneratorfunction(function):
        return _generator_function(function, label)

    def timed(*args: Any, **kwargs: Any) -> Any:
        with time_block(label):
            return function(*args, **kwargs)

    return timed


def _coroutine_function(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    async def timed(*args: Any, **kwargs: Any) -> Any:
        with time_block(label):
            return await function(*args, **kwargs)

    return timed


def _generator_function(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with time_block(label):
            return (yield from function(*args, **kwargs))

    return timed


def _async_generator_function(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    async def timed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        with time_block(label):
            try:
                step = generator.asend(None)
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    try:
                        step = generator.asend((yield item))
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - it is for the generator
                        step = generator.athrow(thrown)
            finally:
                await generator.aclose()

    return timed
