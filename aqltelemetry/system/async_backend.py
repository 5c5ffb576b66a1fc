"""Which asynchronous backend runs the current code: asyncio, trio, or another one.

Only asyncio is imported here; code that runs on another backend has imported that itself.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from types import FrameType
from typing import Any

_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_RESUMABLE = _COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def asyncio_task() -> asyncio.Task[Any] | None:
    """Return the running task of asyncio; None outside of one, also if its event loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs on this thread
        return None


def trio_task() -> object | None:
    """Return the running task of trio; None outside of one."""
    lowlevel = sys.modules.get("trio.lowlevel")
    try:
        return None if lowlevel is None else lowlevel.current_task()
    except (RuntimeError, AttributeError):  # trio does not run here, or is being imported
        return None


def other_task() -> object | None:
    """Return the running task of trio or of an unknown backend, as `current_task` does."""
    return trio_task() or _outermost_coroutine()


def current_task() -> object | None:
    """Return an object that only the running task has, on any backend; None outside of tasks.

    On an unknown backend it is the frame of the coroutine that the backend resumes.
    """
    return asyncio_task() or other_task()


def is_cancellation(exc: BaseException) -> bool:
    """Return whether an exception is a cancellation by asyncio or trio, or a group of these."""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_cancellation(each) for each in exc.exceptions)
    trio = sys.modules.get("trio")
    cancelled = getattr(trio, "Cancelled", asyncio.CancelledError)
    return isinstance(exc, asyncio.CancelledError | cancelled)


def _outermost_coroutine() -> FrameType | None:
    frame = inspect.currentframe()
    while frame is not None and not frame.f_code.co_flags & _COROUTINE:
        frame = frame.f_back
    found = frame
    while frame is not None and frame.f_code.co_flags & _RESUMABLE:
        if frame.f_code.co_flags & _COROUTINE:
            found = frame
        frame = frame.f_back
    return found


def coroutine_marks() -> dict[str, object]:
    """Return the attributes by which a coroutine function is recognised, if it is compiled."""

    def marked() -> None: ...

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(marked)
    else:
        marked._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001 - as asgiref does
    return dict(vars(marked))
