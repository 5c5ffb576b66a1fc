"""Reads several archives at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_MAX_THREADS = 8
_R = TypeVar("_R")


def for_each(function: Callable[..., _R], *arguments: Sequence[Any]) -> Iterator[_R]:
    """Yield the results of a function for some archives, in order, from a thread per processor.

    Args:
        function: What to call; it may be called in several threads.
        arguments: As of `map`: each has one argument for each archive.
    """
    threads = max(1, min(len(os.sched_getaffinity(0)), len(arguments[0]), _MAX_THREADS))
    with ThreadPoolExecutor(threads, "aqltelemetry-archives") as pool:
        yield from (map if threads == 1 else pool.map)(function, *arguments)
