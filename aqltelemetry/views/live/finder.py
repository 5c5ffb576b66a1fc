"""Looks for findings now and then, on a thread, so that this costs little of a processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import start_thread

Findings: TypeAlias = Sequence[Mapping[str, Any]]
_PAUSE = 99
_LEAST_PAUSE_NS = 10 * NS_PER_S


class Finder:
    """Keeps the latest findings; looks again after 99 times as long as it took, at least 10 s.

    Args:
        find: Returns the findings as dicts.
        clock: Returns the present time, in nanoseconds.
        start: Starts a function, named so, on a thread.
    """

    def __init__(
        self,
        find: Callable[[], Findings],
        clock: Callable[[], int],
        start: Callable[[Callable[[], None], str], None] = start_thread,
    ) -> None:
        self._find = find
        self._clock = clock
        self._start = start
        self._latest: Findings = ()
        self._due_ns: int | None = 0

    def latest(self) -> Findings:
        """Return the latest findings; look for new ones if it is time."""
        if self._due_ns is not None and self._clock() >= self._due_ns:
            self._due_ns = None
            self._start(self._look, "aqltelemetry findings")
        return self._latest

    def _look(self) -> None:
        began_ns = self._clock()
        try:
            self._latest = self._find()
        except Exception as exc:  # noqa: BLE001 - the figures are shown without them
            log.warning("findings: %s: %s", type(exc).__name__, exc)
        took_ns = self._clock() - began_ns
        self._due_ns = self._clock() + max(_PAUSE * took_ns, _LEAST_PAUSE_NS)
