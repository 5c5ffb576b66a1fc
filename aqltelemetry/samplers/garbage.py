"""Measures the garbage collector: how often it ran, what it found, how long it paused."""

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
    """Samples `gc.get_stats()`, summed over the generations, and measures each collection.

    The totals are since the start of the interpreter. A pause, in seconds, is recorded at its
    end, as `gc pause` and as `gc pause gen0`, `gen1` or `gen2`.
    """

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self) -> None:
        self._append: Append | None = None
        self._started_ns: int | None = None

    async def sample(self) -> Sequence[Measurement]:
        """Return the totals of the collector."""
        stats = gc.get_stats()
        return (
            Measurement(GC_COLLECTIONS, sum(each["collections"] for each in stats)),
            Measurement(GC_COLLECTED, sum(each["collected"] for each in stats)),
            Measurement(GC_UNCOLLECTABLE, sum(each["uncollectable"] for each in stats)),
        )

    def attach(self, append: Append) -> None:
        """Start to measure each collection."""
        self._append = append
        if self._collected not in gc.callbacks:
            gc.callbacks.append(self._collected)

    def detach(self) -> None:
        """Stop to measure collections."""
        self._append = None
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        # The collector calls this during any operation, even during a record: it may only read
        # a clock and append. Collections do not nest, but the first call may be the end of one,
        # if this was attached during it.
        if phase == "start":
            self._started_ns = monotonic_ns()
            return
        started_ns, self._started_ns = self._started_ns, None
        append = self._append
        if started_ns is not None and append is not None:
            pause_s = (monotonic_ns() - started_ns) / NS_PER_S
            append(GC_PAUSE, pause_s)
            append(_GENERATION_PAUSES[info["generation"]], pause_s)
