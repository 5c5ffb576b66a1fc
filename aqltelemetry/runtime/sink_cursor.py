"""Keeps track of one sink: which segments it is still to be given, and which it has taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from aqltelemetry.observation import RUNTIME, Batch, SegmentId
from aqltelemetry.protocols import Sink
from aqltelemetry.system.logs import log

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 30.0
_QUIET_ROWS = 20_000  # of a file of about a MiB
_QUIET_AGES = 10
_QUIET_S = 600.0


class SinkCursor:
    """Gives a sink each segment's batch until the sink returns that it keeps the segment.

    After an exception of the sink, or a cancellation that it saw, it is given again all segments
    that it does not keep, after pauses that grow. Times are seconds of the event loop's clock.
    `may_wait` says that samples alone may wait longer for a flush.
    """

    def __init__(self, sink: Sink, *, may_wait: bool = False) -> None:
        self.sink = sink
        self._may_wait = may_wait
        self._has_flushed = False
        self._holds_only_samples = True
        self._rows = 0
        self.errors = 0
        self.retry_at_s = 0.0
        self._todo: dict[SegmentId, None] = {}
        self._taken: dict[SegmentId, None] = {}
        self._taken_since_s = 0.0
        self._retry_s = _FIRST_RETRY_S
        self._logged: set[str] = set()

    @property
    def todo(self) -> Sequence[SegmentId]:
        """The segments that the sink is still to be given, in order."""
        return tuple(self._todo)

    @property
    def waiting(self) -> int:
        """How many segments the sink is still to be given."""
        return len(self._todo)

    def add(self, segment: SegmentId) -> None:
        """Add a segment to those that the sink is to be given."""
        self._todo[segment] = None

    def forget(self, segment: SegmentId) -> None:
        """Remove a segment that could not be read."""
        self._todo.pop(segment, None)

    @property
    def is_quiet(self) -> bool:
        """Whether the sink has taken few rows and samples alone, and has kept something before."""
        is_small = self._rows <= _QUIET_ROWS and self._holds_only_samples
        return self._may_wait and self._has_flushed and is_small

    def flush_at_s(self, max_age_s: float) -> float | None:
        """Return when a flush of what the sink has taken is due; None if it has taken nothing.

        After the first flush, a few samples alone wait ten times as long, at most ten minutes:
        an idle process makes fewer and larger files.
        """
        if not self._taken:
            return None
        quiet_s = max(max_age_s, min(_QUIET_AGES * max_age_s, _QUIET_S))
        return self._taken_since_s + (quiet_s if self.is_quiet else max_age_s)

    def due_at_s(self, max_age_s: float) -> float | None:
        """Return when the sink is to be served next; None if there is nothing to do."""
        return self.retry_at_s if self._todo else self.flush_at_s(max_age_s)

    async def write(self, batch: Batch, now_s: float) -> Sequence[SegmentId]:
        """Give the sink a batch; return the segments that it keeps from now on."""
        self._todo.pop(batch.segment, None)
        if not self._taken:
            self._taken_since_s = now_s
            self._holds_only_samples, self._rows = True, 0
        self._rows += batch.rows
        self._holds_only_samples &= all(column.series.prefix == RUNTIME for column in batch.columns)
        self._taken[batch.segment] = None
        with self._given_again_on_failure():
            return self._kept("write", await self.sink.write(batch))

    async def flush(self) -> Sequence[SegmentId]:
        """Flush the sink; return the segments that it keeps from now on."""
        with self._given_again_on_failure():
            kept = self._kept("flush", await self.sink.flush())
        self._has_flushed = True
        return kept

    @contextmanager
    def _given_again_on_failure(self) -> Iterator[None]:
        """Give all segments again that the sink does not keep, if its method does not return.

        Any other failure leaves the sink with what it has taken, so it must not get that twice.
        """
        try:
            yield
        except BaseException:
            self._todo = self._taken | self._todo
            self._taken = {}
            raise

    def fail(self, exc: BaseException, now_s: float) -> None:
        """Count and log a failed delivery to the sink, and set the time of the next try."""
        self.errors += 1
        self.retry_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
        self._log_once(type(exc).__name__, "failed, and will be tried again: %r", exc)

    def _kept(self, method: str, said: object) -> Sequence[SegmentId]:
        """Return which of the segments that the sink was given it keeps from now on.

        A sink may name segments again that it has named before. Anything else that it returns
        is ignored: a segment stays in the journal until each sink has named it.
        """
        self._retry_s = _FIRST_RETRY_S
        if not isinstance(said, Iterable):
            rule = f"{method}() must return the segments that it keeps, and returned %r"
            self._log_once(method, rule, said)
            return ()
        kept = []
        for segment in tuple(said):  # first, because a generator may raise
            is_id = isinstance(segment, tuple) and [type(each) for each in segment] == [str, int]
            if not is_id:
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
            log.error("sink %r " + message, self.sink, detail)
