"""Proxies for awaitable objects and asynchronous context managers that are timed.

A proxy behaves like its object and has the same class for `isinstance` and for its methods;
only `is` and `type` show the difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from aqltelemetry.recording.recorder import time_block

_MakeRun: TypeAlias = Callable[[], AbstractContextManager[None]]
_OWN = frozenset(
    {
        *("__new__", "__init__", "__del__", "__class__", "__dict__", "__weakref__", "__slots__"),
        *("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__init_subclass__"),
        *("__subclasshook__", "__class_getitem__", "__doc__", "__module__", "__annotations__"),
        *("__await__", "__aenter__", "__aexit__", "__reduce__", "__reduce_ex__", "__getstate__"),
        *("__orig_bases__", "__parameters__", "__abstractmethods__", "__prepare__"),
    }
)
_classes: WeakKeyDictionary[type, type] = WeakKeyDictionary()


def has_method(cls: type, name: str) -> bool:
    """Return whether a class defines a method; its metaclass is not used."""
    return any(name in vars(base) for base in cls.__mro__)


def proxied(thing: Any, label: str, make_run: _MakeRun) -> Any:
    """Return a proxy for an object, which is timed when it is awaited or entered.

    `make_run` returns a context manager around one run of an awaitable. A context manager is
    recorded under `label` when it is left.
    """
    cls = type(thing)
    if _is_mock(cls):
        return thing
    proxy_class = _classes.get(cls)
    if proxy_class is None:
        proxy_class = _classes[cls] = _make_class(cls)
    return proxy_class(thing, make_run, time_block(label))


def _is_mock(cls: type) -> bool:
    # A mock has every method, and tests ask whether it is the very one they made.
    mock = sys.modules.get("unittest.mock")
    return mock is not None and issubclass(cls, mock.NonCallableMock)


def _make_class(cls: type) -> type:
    namespace: dict[str, Any] = {
        name: _forward(name)
        for base in cls.__mro__[:-1]
        for name in vars(base)
        if name[:2] == name[-2:] == "__" and name not in _OWN and callable(getattr(cls, name, None))
    }
    if getattr(cls, "__hash__", None) is None:
        namespace["__hash__"] = None
    bases: tuple[type, ...] = (_Proxy,)
    if has_method(cls, "__await__"):
        bases = (_CoroutineProxy if issubclass(cls, Coroutine) else _AwaitableProxy, *bases)
    if has_method(cls, "__aenter__"):
        bases = (_ContextManagerProxy, *bases)
    return type(cls.__name__, bases, {"__slots__": (), **namespace})


def _forward(name: str) -> Callable[..., Any]:
    def method(proxy: _Proxy, *args: Any, **kwargs: Any) -> Any:
        thing = proxy._timed_thing  # noqa: SLF001 - of the same file
        # Two stand-ins compare as their objects do.
        others = [each._timed_thing if issubclass(type(each), _Proxy) else each for each in args]  # noqa: SLF001
        return getattr(type(thing), name)(thing, *others, **kwargs)

    return method


class _Proxy:
    __slots__ = (
        *("__weakref__", "_timed_block", "_timed_run", "_timed_steps", "_timed_thing"),
        "_timed_used",
    )
    _timed_steps: Generator[Any, Any, Any]

    def __init__(self, thing: Any, make_run: _MakeRun, block: time_block) -> None:
        for name, value in (
            *(("_timed_thing", thing), ("_timed_run", make_run)),
            *(("_timed_block", block), ("_timed_used", False)),
        ):
            object.__setattr__(self, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._timed_thing)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return self._timed_thing.__dict__  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timed_thing, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._timed_thing, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._timed_thing, name)

    def __repr__(self) -> str:
        return repr(self._timed_thing)

    def __str__(self) -> str:
        return str(self._timed_thing)

    def __dir__(self) -> list[str]:
        return dir(self._timed_thing)

    def __hash__(self) -> int:
        return hash(self._timed_thing)

    def __eq__(self, other: object) -> Any:
        is_proxy = issubclass(type(other), _Proxy)
        return self._timed_thing == (other._timed_thing if is_proxy else other)  # type: ignore[attr-defined]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._timed_thing.__reduce_ex__(protocol)


class _AwaitableProxy:
    __slots__ = ()

    def __await__(self: Any) -> Generator[Any, Any, Any]:
        object.__setattr__(self, "_timed_used", True)
        with self._timed_run():
            return (yield from self._timed_thing.__await__())


class _CoroutineProxy(_AwaitableProxy):
    """A proxy for a coroutine, which a task runs step by step."""

    __slots__ = ()

    def send(self: Any, value: Any) -> Any:
        return _steps(self).send(value)

    def throw(self: Any, *error: Any) -> Any:
        return _steps(self).throw(*error)

    def close(self: Any) -> None:
        if self._timed_used:
            _steps(self).close()
        self._timed_thing.close()


def _steps(proxy: Any) -> Generator[Any, Any, Any]:
    try:
        found = object.__getattribute__(proxy, "_timed_steps")
    except AttributeError:
        found = proxy.__await__()
        object.__setattr__(proxy, "_timed_steps", found)
        object.__setattr__(proxy, "_timed_used", True)
    return found  # type: ignore[no-any-return]


class _ContextManagerProxy:
    __slots__ = ()

    async def __aenter__(self: Any) -> Any:
        object.__setattr__(self, "_timed_used", True)
        self._timed_block.__enter__()
        try:
            return await self._timed_thing.__aenter__()
        except BaseException as exc:
            self._timed_block.__exit__(type(exc), exc, None)
            raise

    async def __aexit__(self: Any, *exc_info: object) -> Any:
        try:
            result = await self._timed_thing.__aexit__(*exc_info)
            # What it suppresses is no failure.
            exc_type = None if result else next(iter(exc_info), None)
        except BaseException as exc:
            self._timed_block.__exit__(type(exc), exc, None)
            raise
        self._timed_block.__exit__(exc_type, None, None)
        return result

    def __del__(self: Any) -> None:
        # What is handed out for something else, such as a client, took as long as the call.
        if not self._timed_used:
            with self._timed_run():
                pass
