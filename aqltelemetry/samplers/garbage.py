"""Observes the garbage collector: how often it ran, what it found, how long it paused."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.protocols import Append
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns

GC_COLLECTIONS = "gc collections"
GC_COLLECTED = "gc collected"
GC_UNCOLLECTABLE = "gc uncollectable"
GC_PAUSE = "gc pause"
_GENERATION_PAUSES = (f"{GC_PAUSE} gen0", f"{GC_PAUSE} gen1", f"{GC_PAUSE} gen2")


class GarbageSampler:
    """Samples `gc.get_stats()`, summed over the generations, and times each collection.

    The totals count from the start of the interpreter. A pause, in seconds, is
    recorded at its end, once as `gc pause` and once under its generation.
    """

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self) -> None:
        self._append: Append | None = None
        self._started_ns: int | None = None

    async def sample(self) -> Sequence[Measurement]:
        """Return the collector's totals."""
        stats = gc.get_stats()
        return (
            Measurement(GC_COLLECTIONS, sum(each["collections"] for each in stats)),
            Measurement(GC_COLLECTED, sum(each["collected"] for each in stats)),
            Measurement(GC_UNCOLLECTABLE, sum(each["uncollectable"] for each in stats)),
        )

    def attach(self, append: Append) -> None:
        """Have the collector call us."""
        self._append = append
        if self._collected not in gc.callbacks:
            gc.callbacks.append(self._collected)

    def detach(self) -> None:
        """Leave the collector alone."""
        self._append = None
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        # Called in the middle of anything, even of a record: it may only read a
        # clock and append. The collector does not nest, but it may be ours to see
        # an end without a beginning, when attached in between.
        if phase == "start":
            self._started_ns = monotonic_ns()
            return
        started_ns, self._started_ns = self._started_ns, None
        append = self._append
        if started_ns is not None and append is not None:
            pause_s = (monotonic_ns() - started_ns) / NS_PER_S
            append(GC_PAUSE, pause_s)
            append(_GENERATION_PAUSES[info["generation"]], pause_s)
