"""What the monitor asks of samplers and sinks: a few methods each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from aqltelemetry.observation import Batch, Measurement, SegmentId

Append = Callable[[str, float], None]
"""Records a measurement `(label, value)` now, without waiting; from any thread."""


@runtime_checkable
class Sampler(Protocol):
    """Observes something each time it is asked.

    `prefix` is the file prefix of its series. `interval_s` is the time between
    two samples, None for the monitor's default.
    """

    prefix: str
    interval_s: float | None

    async def sample(self) -> Sequence[Measurement]:
        """Return what is observed now; an exception is counted and logged once."""
        ...


@runtime_checkable
class Attached(Protocol):
    """A sampler that also observes between its samples, when something happens.

    `attach` is called on the event loop when recording starts, `detach` when it
    stops and in a forked child; `append` may be called from any thread, from
    garbage collector callbacks too.
    """

    def attach(self, append: Append) -> None:
        """Begin to observe, handing each measurement to `append`."""
        ...

    def detach(self) -> None:
        """Cease to observe; must be harmless when called twice."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Keeps batches outside the journal.

    `write` and `flush` return the segments, of this call or earlier ones, whose
    observations are now kept for good: these leave the journal once every sink has
    named them; naming one again changes nothing. When a call raises, the batches
    not yet returned are written again later, so a sink forgets them. A batch may also
    come again, with the same `segment`, from the process that recovers a killed one.
    """

    async def write(self, batch: Batch) -> Sequence[SegmentId]:
        """Take a batch."""
        ...

    async def flush(self) -> Sequence[SegmentId]:
        """Keep for good what was taken."""
        ...

    async def close(self) -> None:
        """Release what the sink holds; nothing that was not flushed needs keeping."""
        ...
