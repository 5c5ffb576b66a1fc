"""Runs what needs no interpreter lock in several threads, if there is enough of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# With fewer values, threads take longer to start than they save.
_MIN_VALUES = 1_000_000
_MAX_THREADS = 8
_T = TypeVar("_T")
_R = TypeVar("_R")


def number_for(values: int) -> int:
    """Return how many threads are worth it for a number of values."""
    return min(len(os.sched_getaffinity(0)), _MAX_THREADS) if values >= _MIN_VALUES else 1


def map_all(function: Callable[[_T], _R], tasks: Sequence[_T], values: int) -> list[_R]:
    """Return the results of a function for some tasks, which are about so many values together."""
    threads = min(number_for(values), len(tasks))
    if threads <= 1:
        return [*map(function, tasks)]
    with ThreadPoolExecutor(threads, "aqltelemetry-tables") as pool:
        return [*pool.map(function, tasks)]
