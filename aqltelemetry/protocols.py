"""The methods of samplers and sinks: any class that has them can be given to a Monitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from aqltelemetry.observation import Batch, Measurement, SegmentId

Append = Callable[[str, float], None]
"""A function `append(label, value)` that records a measurement at once, from any thread."""


@runtime_checkable
class Sampler(Protocol):
    """Takes measurements at intervals: pass an object to `Monitor(samplers=[...])`.

    `sample` is called on the event loop every `interval_s`, and once more when recording
    stops.

    Example:
        >>> class ThreadCount:
        ...     prefix = "runtime"
        ...     interval_s = None
        ...
        ...     async def sample(self):
        ...         return [Measurement("thread count", threading.active_count())]
    """

    @property
    def prefix(self) -> str:
        """The first part of the names of its files, such as `queue` for `queue.*.csv`.

        1 to 40 letters, digits, `_` and `-`, or `runtime` to join the built-in samplers.
        """
        ...

    @property
    def interval_s(self) -> float | None:
        """Seconds between two samples; None for the monitor's `interval_s`."""
        ...

    async def sample(self) -> Sequence[Measurement]:
        """Return the measurements of this moment.

        An exception is counted as `telemetry sampler errors` and logged once; the sampler is
        called again at its next time.
        """
        ...


@runtime_checkable
class Attached(Protocol):
    """A sampler that also records events between its samples, such as garbage collections.

    The two methods are optional: a sampler that has them is attached when recording starts.
    """

    def attach(self, append: Append) -> None:
        """Start to record events; called on the event loop when recording starts.

        Args:
            append: Call `append(label, value)` to record a measurement. It may be called on any
                thread, in callbacks of the garbage collector too, and does not raise.
        """
        ...

    def detach(self) -> None:
        """Stop to record events; called when recording stops, and in a forked child.

        It may be called twice.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """Receives all observations in batches: pass an object to `Monitor(sinks=[...])`.

    The methods are called on the event loop, one at a time. `write` and `flush` return the
    segments, of this call or earlier ones, that the sink has stored permanently. A segment
    leaves the journal once every sink has returned it; returning it again changes nothing.

    If a method raises, the error is counted as `telemetry sink errors` and logged once per
    type, and all batches that were not returned are written again later: discard them. A
    batch may also come again, with the same `segment`, from a process that recovers the
    journal of a killed one.

    Example:
        >>> class CountingSink:
        ...     rows = 0
        ...
        ...     async def write(self, batch):
        ...         self.rows += batch.rows
        ...         return [batch.segment]
        ...
        ...     async def flush(self):
        ...         return []
        ...
        ...     async def close(self):
        ...         pass
    """

    async def write(self, batch: Batch) -> Sequence[SegmentId]:
        """Take a batch; return the segments that are now stored permanently.

        Args:
            batch: The observations of one segment.
        """
        ...

    async def flush(self) -> Sequence[SegmentId]:
        """Store all batches so far permanently; return their segments.

        Called at least every `max_file_age_s`, by `Monitor.flush`, and before `close`.
        """
        ...

    async def close(self) -> None:
        """Release all resources; batches that were not flushed stay in the journal."""
        ...
