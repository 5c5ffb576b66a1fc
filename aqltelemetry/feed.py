"""One sink as the drain sees it: what it has still to be given, what it has taken."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

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
        self._logged: set[str] = set()

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
        """Give the sink a batch; return what it keeps now and did not before."""
        self._todo.pop(batch.segment, None)
        if not self._taken:
            self._taken_since_s = now_s
        self._taken[batch.segment] = None
        return self._kept("write", await self.sink.write(batch))

    async def flush(self) -> Sequence[SegmentId]:
        """Have the sink keep all it has taken; return what it keeps now and did not before."""
        return self._kept("flush", await self.sink.flush())

    def give_again(self) -> None:
        """Have the sink given all again that it has not kept, after a call that did not return."""
        self._todo = self._taken | self._todo
        self._taken = {}

    def fail(self, exc: BaseException, now_s: float) -> None:
        """Note that the sink raised."""
        self.errors += 1
        self.give_again()
        self.retry_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
        self._log_once(type(exc).__name__, "failed, and will be tried again: %r", exc)

    def _kept(self, method: str, said: object) -> Sequence[SegmentId]:
        """Return the segments that the sink keeps now, of those that it was given.

        It may also name those that it said to keep before. Whatever else it returns
        means nothing: a segment stays in the journal until each sink has named it.
        """
        self._retry_s = _FIRST_RETRY_S
        if not isinstance(said, Iterable):
            rule = f"{method}() must return the segments that it keeps, and returned %r"
            self._log_once(method, rule, said)
            return ()
        kept = []
        for segment in tuple(said):  # a generator may raise, before anything is changed
            if not isinstance(segment, tuple) or not _is_id(segment):
                rule = f"{method}() must return segments, and returned one that is none: %r"
                self._log_once("no segment", rule, segment)
            elif segment in self._taken:
                del self._taken[segment]
                kept.append(SegmentId(*segment))
            elif segment in self._todo:
                rule = f"{method}() returned a segment that it has not been given, or failed on: %r"
                self._log_once("not given", rule, segment)
        return kept

    def _log_once(self, what: str, message: str, detail: object) -> None:
        if what not in self._logged:
            self._logged.add(what)
            _log.error("sink %r " + message, self.sink, detail)


def _is_id(segment: tuple[object, ...]) -> bool:
    return [type(each) for each in segment] == [str, int]
