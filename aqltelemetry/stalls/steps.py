"""Counts the steps that an event loop runs: callbacks, and the steps of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType
from typing import NamedTuple, TypeAlias

Frame: TypeAlias = tuple[CodeType, int | None, int]
"""A frame as its code, its line, and a number that no other frame has while it exists."""


class _Key(NamedTuple):
    frame: int
    code: int
    task: int


class StepCounter:
    """Counts the steps in consecutive looks at the thread of an event loop.

    `depth` is how many frames the thread has between two steps or, in asyncio, in a callback
    without a frame. A step is another one if its frame, its code or its task differs, if
    the loop was seen between steps, or if the first callback in the loop's queue has changed.
    """

    def __init__(self, depth: int) -> None:
        self.number = 0
        self._depth = depth
        self._last: _Key | None = None
        self._following = 0

    def count(self, frames: Sequence[Frame], task: int, following: int) -> tuple[int, str]:
        """Return the number of the running step and the name of its function.

        Args:
            frames: The frames of the thread, innermost first.
            task: A number that no other task has while it exists; 0 outside of tasks.
            following: The same for the first callback in the loop's queue; 0 if it is empty.
        """
        if self._depth <= 0 or len(frames) <= self._depth:
            self._last, self._following = None, following
            return 0, ""
        code, _, frame = frames[-self._depth - 1]
        key = _Key(frame, id(code), task)
        has_advanced = self._following not in (0, following)
        if key != self._last or has_advanced:
            self.number += 1
        self._last, self._following = key, following
        return self.number, code.co_qualname
