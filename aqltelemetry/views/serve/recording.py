"""Reads a recording for all browsers, on one thread of its own, and keeps what was computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.threads import WorkerThread
from aqltelemetry.views.serve.pace import Pace
from aqltelemetry.views.serve.plain_json import as_json
from aqltelemetry.views.serve.queries import Window
from aqltelemetry.views.serve.reports import Observations, Reports
from aqltelemetry.views.strips import Lives, Recorded, strips

_KEPT = 8
_SHARE = 0.05
_MAX_AGE_S = 1.0
_MOST_S = 1.5  # with what follows, what is new is shown within 2 s


class State(NamedTuple):
    """What is known of a recording after a refresh."""

    observations: int
    """How many observations there are."""
    strips: int
    """Grows by one if observations are new."""
    report: int
    """Grows by one if there is a new report."""

    @property
    def number(self) -> int:
        """A number that grows with each change."""
        return self.strips + self.report


class Recording:
    """A recording, and the JSON that is made of it.

    All methods but `close` return futures: the work is done on two threads, one of which makes
    the report. A call whose future is cancelled before its turn is left out.

    Args:
        load: Opens the recording; called once, on a thread.
        max_age_s: The age in seconds above which what is new is read first. It is larger where
            reading and what followed from it took long, so that they take a `share` of the time,
            but not so large that what is new is shown after more than 2 s.
        share: The part of the time that reading and making strips may take.
        clock_ns: A monotonic clock in nanoseconds.
    """

    def __init__(
        self,
        load: Callable[[], TelemetryDB],
        max_age_s: float = _MAX_AGE_S,
        share: float = _SHARE,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._load = load
        self._pace = Pace(share, max_age_s, _MOST_S, clock_ns)
        self._thread = WorkerThread("aqltelemetry-views")
        self._reports = Reports(lambda: self._thread.submit(self._newest), max_age_s, clock_ns)
        self._db: TelemetryDB | None = None
        self._sizes: dict[str, int] = {}
        self._number = 0
        self._made: dict[Window, bytes] = {}
        self._lives = Lives()
        self._source: Recorded | None = None

    def state(self) -> Future[State]:
        """Return the newest state."""
        return self._thread.submit(self._newest_state)

    def report(self, top: int) -> Future[bytes]:
        """Return the report's document as JSON, with so many rows of each table, 0 for all.

        It is renewed less often than the strips if it takes long.
        """
        return self._reports.get(top)

    def strips(self, window: Window) -> Future[bytes]:
        """Return the strips of a window as JSON."""
        return self._thread.submit(self._strips, window)

    def close(self) -> None:
        """End the threads after what they were asked for."""
        self._reports.close(self._thread.shutdown)

    def _fresh(self) -> TelemetryDB:
        """Return the recording, with what is new unless it was read a short time ago."""
        if self._db is not None and not self._pace.is_due:
            return self._db
        with self._pace.begin():
            self._db = self._refreshed(self._db)
        return self._db

    def _refreshed(self, db: TelemetryDB | None) -> TelemetryDB:
        """Read what is new; what was made of it before is not kept if there is any."""
        if db is None:
            db = self._load()
        else:
            db.refresh()
        sizes = _sizes(db)
        if sizes != self._sizes or not self._number:
            self._sizes = sizes
            self._number += 1
            self._made.clear()
            self._source = None
        return db

    def _newest(self) -> Observations:
        db = self._fresh()
        return Observations(self._number, db.snapshot())

    def _newest_state(self) -> State:
        self._fresh()
        self._reports.renew(self._number)
        observations = sum(self._sizes.values()) - self._sizes[ACCOUNT]
        return State(observations, self._number, self._reports.number)

    def _strips(self, window: Window) -> bytes:
        """Return what was made since the last change, or make it."""
        db = self._fresh()
        if window not in self._made:
            while len(self._made) >= _KEPT:
                del self._made[next(iter(self._made))]
            with self._pace.work():
                self._source = self._source or self._lives.recorded(db)
                self._made[window] = as_json(strips(db, *window, known=self._source).as_dict())
        return self._made[window]


def _sizes(db: TelemetryDB) -> dict[str, int]:
    """Return the number of rows of each prefix, which changes if anything is new."""
    return {prefix: sum(map(len, db.parts(prefix))) for prefix in (*db.prefixes(), ACCOUNT)}
