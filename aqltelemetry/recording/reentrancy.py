"""Parts that both versions of a timed block share: its awaitable and overlapping entries."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeAlias, TypeVar

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


class OverlappingEntries:
    """The entries of a block that is or was entered more than once at a time.

    The owner of the first entry is not known: a task that leaves the block and owns no other
    entry is its owner. An owner leaves its last entry first.
    """

    __slots__ = ("_starts_ns", "first_ns")

    def __init__(self) -> None:
        self.first_ns: int | None = None
        self._starts_ns: dict[_Owner, list[int]] = {}

    def enter(self, now_ns: int) -> None:
        """Store that the running task enters at a monotonic time."""
        self._starts_ns.setdefault(_owner(), []).append(now_ns)

    def leave(self) -> int | None:
        """Return when the running task entered the block that it leaves; None if it did not."""
        owner = _owner()
        starts_ns = self._starts_ns.get(owner)
        if starts_ns:
            start_ns: int | None = starts_ns.pop()
            if not starts_ns:
                del self._starts_ns[owner]
        else:
            start_ns, self.first_ns = self.first_ns, None
        return start_ns


def _owner() -> _Owner:
    """Return the thread, greenlet and task that run now; many tasks may share a thread."""
    greenlet = sys.modules.get("greenlet")
    running = None if greenlet is None else greenlet.getcurrent()
    return threading.get_ident(), running, current_task()
