"""The waits between attempts to reach a destination: exponential, with full jitter."""

from __future__ import annotations

from collections.abc import Callable

_FIRST_S = 0.5
_LONGEST_S = 60.0


class Backoff:
    """Computes how long to wait after each failed attempt.

    The n-th wait is a random time between 0 and `min(60 s, 0.5 s * 2**n)`, so that many shippers
    do not return at the same moment (Brooker, "Exponential Backoff And Jitter", 2015).
    `random` returns a number from 0 to 1.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self.failures = 0
        """The number of failed attempts since the last success."""
        self._random = random

    def next_s(self) -> float:
        """Count a failed attempt; return how long to wait, in seconds."""
        longest_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return self._random() * longest_s

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0
