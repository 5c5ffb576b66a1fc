"""Reads a recording for all browsers, on one thread of its own, and keeps what was computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.system.threads import WorkerThread
from aqltelemetry.views.document import Options, document
from aqltelemetry.views.serve.queries import Window
from aqltelemetry.views.strips import Recorded, recorded, strips

_KEPT = 8
_SLOWEST = 50


class State(NamedTuple):
    """What is known of a recording after a refresh."""

    number: int
    """Grows by one with each change."""
    observations: int
    """How many observations there are."""


class Recording:
    """A recording, and the JSON that is made of it.

    All methods but `close` return futures: the work is done on one thread, in the order of the
    calls. A call whose future is cancelled before its turn is left out.

    Args:
        load: Opens the recording; called once, on that thread.
        max_age_s: The age in seconds above which what is new is read first. It is larger where
            reading and what followed from it took long, so that they take a `share` of the time.
        clock_ns: A monotonic clock in nanoseconds.
    """

    def __init__(
        self,
        load: Callable[[], TelemetryDB],
        max_age_s: float = 1.0,
        share: float = 0.5,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._load = load
        self._share = share
        self._max_age_ns = int(max_age_s * NS_PER_S)
        self._clock_ns = clock_ns
        self._thread = WorkerThread("aqltelemetry-views")
        self._db: TelemetryDB | None = None
        self._read_at_ns = 0
        self._sizes: dict[str, int] = {}
        self._state = State(0, 0)
        self._made: dict[int | Window, bytes] = {}
        self._busy_ns = 0
        self._source: Recorded | None = None

    def state(self) -> Future[State]:
        """Return the newest state."""
        return self._thread.submit(self._newest_state)

    def report(self, top: int) -> Future[bytes]:
        """Return the report's document as JSON, with so many rows of each table, 0 for all."""
        return self._thread.submit(self._kept, top, lambda: self._make_report(top))

    def strips(self, window: Window) -> Future[bytes]:
        """Return the strips of a window as JSON."""
        return self._thread.submit(self._kept, window, lambda: self._make_strips(window))

    def close(self) -> None:
        """End the thread after what it was asked for."""
        self._thread.shutdown()

    def _refresh(self) -> State:
        """Read what is new; what was made of it before is not kept if there is any."""
        self._busy_ns = 0
        with self._counted():
            if self._db is None:
                self._db = self._load()
            else:
                self._db.refresh()
            sizes = _sizes(self._db)
        self._read_at_ns = self._clock_ns()
        if sizes != self._sizes or not self._state.number:
            self._sizes = sizes
            self._state = State(self._state.number + 1, sum(sizes.values()) - sizes[ACCOUNT])
            self._made.clear()
            self._source = None
        return self._state

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the time of the block as spent since the last refresh."""
        started_ns = self._clock_ns()
        try:
            yield
        finally:
            self._busy_ns += self._clock_ns() - started_ns

    def _fresh(self) -> TelemetryDB:
        """Return the recording, with what is new unless it was read a short time ago.

        Refreshing and what follows from it take a part of the time, however long they take.
        """
        pause_ns = max(self._max_age_ns, int(self._busy_ns / self._share))
        if self._db is None or self._clock_ns() - self._read_at_ns > pause_ns:
            self._refresh()
        assert self._db is not None  # noqa: S101 - for the type checker: `_refresh` opens it
        return self._db

    def _newest_state(self) -> State:
        self._fresh()
        return self._state

    def _kept(self, key: int | Window, make: Callable[[], bytes]) -> bytes:
        """Return what was made since the last change, or make it."""
        self._fresh()
        if key not in self._made:
            while len(self._made) >= _KEPT:
                del self._made[next(iter(self._made))]
            with self._counted():
                self._made[key] = make()
        return self._made[key]

    def _make_report(self, top: int) -> bytes:
        return _json(document(self._fresh(), Options(top=top, slowest=_SLOWEST)))

    def _make_strips(self, window: Window) -> bytes:
        db = self._fresh()
        if self._source is None:
            self._source = recorded(db)
        return _json(strips(db, *window, known=self._source).as_dict())


def _json(data: Any) -> bytes:
    return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()


def _sizes(db: TelemetryDB) -> dict[str, int]:
    """Return the number of rows of each prefix, which changes if anything is new."""
    prefixes = (*db.prefixes(), ACCOUNT)
    # Unlike `data`, this copies nothing.
    return {prefix: len(db.frame(prefix, missing_ok=True).data_by_process()) for prefix in prefixes}
