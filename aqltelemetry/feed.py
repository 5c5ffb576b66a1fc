"""One sink as the drain sees it: what it has still to be given, what it has taken."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from aqltelemetry.observation import Batch, SegmentId
from aqltelemetry.protocols import Sink

_log = logging.getLogger("aqltelemetry")
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 30.0


class Feed:
    """Gives a sink each segment's batch until the sink says that it keeps it.

    After an exception all that the sink has not kept is given again, with longer
    and longer pauses. Times are the event loop's, in seconds.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.errors = 0
        self.retry_at_s = 0.0
        self._todo: dict[SegmentId, None] = {}
        self._taken: dict[SegmentId, None] = {}
        self._taken_since_s = 0.0
        self._retry_s = _FIRST_RETRY_S
        self._logged: set[type[BaseException]] = set()

    @property
    def todo(self) -> Sequence[SegmentId]:
        """What the sink is to be given, in order."""
        return tuple(self._todo)

    @property
    def waiting(self) -> int:
        """How many segments the sink is to be given."""
        return len(self._todo)

    def add(self, segment: SegmentId) -> None:
        """Have the sink given one more segment."""
        self._todo[segment] = None

    def forget(self, segment: SegmentId) -> None:
        """Ask nothing about a segment that could not be read."""
        self._todo.pop(segment, None)

    def flush_at_s(self, max_age_s: float) -> float | None:
        """Return when what the sink has taken is due to be kept; None if there is nothing."""
        return self._taken_since_s + max_age_s if self._taken else None

    async def write(self, batch: Batch, now_s: float) -> Sequence[SegmentId]:
        """Give the sink a batch; return what it keeps now."""
        self._todo.pop(batch.segment, None)
        if not self._taken:
            self._taken_since_s = now_s
        self._taken[batch.segment] = None
        return self._kept(await self.sink.write(batch))

    async def flush(self) -> Sequence[SegmentId]:
        """Have the sink keep all it has taken; return what it keeps now."""
        return self._kept(await self.sink.flush())

    def fail(self, exc: Exception, now_s: float) -> None:
        """Note that the sink raised."""
        self.errors += 1
        self._todo = self._taken | self._todo
        self._taken = {}
        self.retry_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
        if type(exc) not in self._logged:
            self._logged.add(type(exc))
            _log.error("sink %r failed, and will be tried again: %r", self.sink, exc)

    def _kept(self, segments: Sequence[SegmentId]) -> Sequence[SegmentId]:
        for segment in segments:
            self._taken.pop(segment, None)
        self._retry_s = _FIRST_RETRY_S
        return segments
