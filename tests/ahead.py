"""Runs of programs that are started some time before a test asks for their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

_Key = TypeVar("_Key")
_Result = TypeVar("_Result")


class Ahead(Generic[_Key, _Result]):
    """Runs each key's program once, and the next ones of `keys` at the same time.

    pytest-xdist gives neighbouring tests to a process, so what only tests of other processes need
    is not run in this one. At most `at_once` programs run at a time.
    """

    def __init__(
        self, keys: Iterable[_Key], run: Callable[[_Key], _Result], *, at_once: int
    ) -> None:
        self._keys = list(dict.fromkeys(keys))
        self._run = run
        self._at_once = at_once
        self._pool = ThreadPoolExecutor(at_once)
        self._results: dict[_Key, Future[_Result]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def result(self, key: _Key) -> _Result:
        """Return the result of a key's program, once it has ended."""
        at = self._keys.index(key)
        for each in self._keys[at : at + self._at_once]:
            if each not in self._results:
                self._results[each] = self._pool.submit(self._run, each)
        return self._results[key].result()
