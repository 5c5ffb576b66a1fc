"""Parts that both versions of a timed block share: its awaitable and overlapping entries."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeAlias, TypeVar

from aqltelemetry.system.async_backend import current_task

_T = TypeVar("_T")
_Owner: TypeAlias = tuple[int, object | None, object | None]


def _nothing() -> Generator[Any, None, None]:
    yield from ()


# Its type is said to be what contextlib expects.
FINISHED: Coroutine[Any, Any, None] = coroutine(_nothing)()  # type: ignore[no-untyped-call]
"""A generator that has ended: it may be awaited again and again, at the cost of a call."""
next(FINISHED, None)  # type: ignore[call-overload]


async def awaited(awaitable: Awaitable[_T]) -> _T:
    """Return the result of any awaitable, as a coroutine of Python."""
    return await awaitable


class OverlappingEntries(Generic[_T]):
    """The entries of a block that is or was entered more than once at a time.

    An entry is any object, such as the time of its start. The owner of the first one is not
    known: a task that leaves the block and owns no other entry is its owner. An owner leaves its
    last entry first.
    """

    __slots__ = ("_entries", "first")

    def __init__(self) -> None:
        self.first: _T | None = None
        self._entries: dict[_Owner, list[_T]] = {}

    def enter(self, entry: _T) -> None:
        """Store an entry of the running task."""
        self._entries.setdefault(_owner(), []).append(entry)

    def leave(self) -> _T | None:
        """Remove and return the entry that the running task leaves; None if it has none."""
        owner = _owner()
        entries = self._entries.get(owner)
        if entries:
            entry: _T | None = entries.pop()
            if not entries:
                del self._entries[owner]
        else:
            entry, self.first = self.first, None
        return entry


def _owner() -> _Owner:
    """Return the thread, greenlet and task that run now; many tasks may share a thread."""
    greenlet = sys.modules.get("greenlet")
    running = None if greenlet is None else greenlet.getcurrent()
    return threading.get_ident(), running, current_task()
