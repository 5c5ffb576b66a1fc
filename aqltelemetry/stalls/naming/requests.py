"""Names the request that running code handles, by the arguments of the functions on its stack.

A host says under which name functions take a request, such as `scope` in ASGI. A function that
runs and has an argument of that name handles that request, and no other one. So nothing has to be
stored when a request begins.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from types import CodeType
from typing import TypeAlias

Name: TypeAlias = Callable[[object], str]
"""Returns the label of a request by the value of an argument; "" if it is none, or not known yet.

It is called on the thread of the probe while the request is handled on another one.
"""
NAMES: dict[str, tuple[Name, ...]] = {}
"""The functions that name requests, by the names of the arguments."""
JOIN = threading.Thread.join.__code__
"""Waits for the end of a thread, which is its first argument."""


def name_requests(argument: str, name: Name) -> None:
    """Name requests by the arguments of this name from now on."""
    NAMES[argument] = tuple(dict.fromkeys((*NAMES.get(argument, ()), name)))


def argument_of(code: CodeType) -> str:
    """Return the argument of a function that may be a request, or the thread that it waits for."""
    if code is JOIN:
        return "self"
    arguments = code.co_varnames[: code.co_argcount]
    return next((each for each in arguments if each in NAMES), "")


def joined(codes: Sequence[CodeType], found: Sequence[tuple[str, object]]) -> str:
    """Return the name of the thread whose end is waited for, in words; "" if there is none.

    Args:
        codes: The innermost two functions that run.
        found: The arguments on the stack, the outermost first.
    """
    if JOIN not in codes or not found:
        return ""
    thread = found[-1][1]
    return f"thread {thread.name}" if isinstance(thread, threading.Thread) else ""


class NamedRequests:
    """Names the requests that are seen during one stall.

    They are kept until `give_back`, so that their last reference is not dropped by the probe, on
    whose thread their destructors must not run.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[object, str]] = {}

    def name(self, found: Sequence[tuple[str, object]]) -> str:
        """Return the label of the first argument that has one; "" if none has."""
        label = ""
        for argument, value in found:
            _, known = self._kept.get(id(value), (None, ""))
            known = known or ("" if label else _named(argument, value))
            self._kept[id(value)] = value, known
            label = label or known
        return label

    def give_back(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Drop the requests on the thread of their event loop."""
        if self._kept and loop is not None:
            kept, self._kept = self._kept, {}
            try:
                loop.call_soon_threadsafe(kept.clear)
            except RuntimeError:  # it has been closed meanwhile
                return


def _named(argument: str, value: object) -> str:
    try:
        return next(filter(None, (name(value) for name in NAMES.get(argument, ()))), "")
    except Exception:  # noqa: BLE001 - the application may change it at this moment
        return ""
