"""Decides when work is done again, so that it takes no more than a share of the time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aqltelemetry.system.clock import NS_PER_S, monotonic_ns


class Pace:
    """Rounds of work, each of which begins some time after the one before.

    Args:
        share: The part of the time that the work may take, from 0 to 1.
        least_s: The shortest time in seconds from the begin of a round to that of the next one.
        most_s: The longest one, however long the work takes.
        clock_ns: A monotonic clock in nanoseconds.
    """

    def __init__(
        self,
        share: float,
        least_s: float,
        most_s: float = math.inf,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._share = share
        self._least_s = least_s
        self._most_s = most_s
        self._clock_ns = clock_ns
        self._began_ns: int | None = None
        self._busy_ns = 0

    @property
    def is_due(self) -> bool:
        """Whether the next round may begin; the first one always may."""
        if self._began_ns is None:
            return True
        pause_s = min(self._busy_ns / NS_PER_S / self._share, self._most_s)
        return (self._clock_ns() - self._began_ns) / NS_PER_S > max(pause_s, self._least_s)

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Begin a round, with the work of the block; one that raises does not count."""
        began_ns, self._began_ns, self._busy_ns = self._clock_ns(), None, 0
        with self.work():
            yield
        self._began_ns = began_ns

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the time of the block for this round."""
        started_ns = self._clock_ns()
        try:
            yield
        finally:
            self._busy_ns += self._clock_ns() - started_ns
