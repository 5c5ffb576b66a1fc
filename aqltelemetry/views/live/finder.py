"""Looks for findings now and then, on a thread, so that this costs little of a processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import start_thread
from aqltelemetry.views.live.seconds import MAX_SPAN_S

Findings: TypeAlias = Sequence[Mapping[str, Any]]
Find: TypeAlias = Callable[[int, int], Findings]
"""Returns the findings, as dicts, between two times in nanoseconds since the epoch."""
_PAUSE = 99
_LEAST_PAUSE_S = 10.0
_LEAST_SPAN_S, _MOST_SPAN_S = 10.0, float(MAX_SPAN_S)
_WANTED_S = 0.7
_MOST_GROWTH, _LEAST_GROWTH = 30.0, 0.5


class Finder:
    """Keeps the latest findings, of at most the last five minutes.

    It looks again after 99 times as long as it took, and after 10 s at the earliest. It begins
    with the last 10 s, and then looks at as many seconds as take it less than a second.

    Args:
        find: Finds.
        clock: Returns a time, in nanoseconds.
        start: Starts a function, with a name, on a thread.
    """

    def __init__(
        self,
        find: Find,
        clock: Callable[[], int] = monotonic_ns,
        start: Callable[[Callable[[], None], str], None] = start_thread,
    ) -> None:
        self._find = find
        self._clock = clock
        self._start = start
        self._latest: Findings = ()
        self._span_s = _LEAST_SPAN_S
        self._due_ns: int | None = clock()

    def latest(self, now_ns: int) -> Findings:
        """Return the latest findings; start to look for those until `now_ns` if it is time."""
        if self._due_ns is not None and self._clock() >= self._due_ns:
            self._due_ns = None
            self._start(lambda: self._look(now_ns), "aqltelemetry findings")
        return self._latest

    def _look(self, now_ns: int) -> None:
        began_ns = self._clock()
        try:
            self._latest = self._find(now_ns - round(self._span_s * NS_PER_S), now_ns)
        except Exception as exc:  # noqa: BLE001 - the figures are shown without them
            log.warning("findings: %s: %s", type(exc).__name__, exc)
        took_s = max(self._clock() - began_ns, 1) / NS_PER_S
        growth = max(min(_WANTED_S / took_s, _MOST_GROWTH), _LEAST_GROWTH)
        self._span_s = max(min(self._span_s * growth, _MOST_SPAN_S), _LEAST_SPAN_S)
        self._due_ns = self._clock() + round(max(_PAUSE * took_s, _LEAST_PAUSE_S) * NS_PER_S)
