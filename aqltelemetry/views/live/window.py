"""The figures of the last seconds, minutes, or of all of a recording, at each moment.

What is new is added; nothing is computed again from all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aqltelemetry.observation import DURATION, RUNTIME
from aqltelemetry.reading.outcomes import OUTCOMES
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.batch import Batch, Worker
from aqltelemetry.views.live.buckets import Integers
from aqltelemetry.views.live.groups import pieces_of
from aqltelemetry.views.live.latest import NO_REQUESTS, Requests, recorded_s
from aqltelemetry.views.live.routes import Routes
from aqltelemetry.views.live.seconds import AHEAD_S, KEPT_S, MAX_SPAN_S, Span
from aqltelemetry.views.live.slowest import Slow, Slowest
from aqltelemetry.views.live.totals import Totals, totals
from aqltelemetry.views.live.workers import Workers

WINDOWS: Mapping[str, int | None] = {"10s": 10, "1m": 60, "5m": MAX_SPAN_S, "all": None}
"""The windows by their names: how many seconds; None for all of the recording."""
_SERVER_ERROR = OUTCOMES.index("5xx")


class Snapshot(NamedTuple):
    """The figures of a window; times are in nanoseconds since the epoch.

    `routes`, `workers`, `slowest` and `stalls` are rows: dicts with the keys of the report's
    document and some more: `trend` is the number of durations in each bin of the window.
    """

    begin_ns: int | None
    end_ns: int
    recorded_s: float
    routes: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    slowest: list[dict[str, Any]]
    totals: Totals
    stalls: Sequence[Mapping[str, Any]] = ()


class LiveWindow:
    """Takes observations as they arrive, and returns the figures of a window at its time.

    A window ends at the last whole second. Percentiles are at most 0.78 % off, see `buckets`;
    counts, sums and maxima are exact.

    Args:
        now_ns: The present time, or that of a replay, in nanoseconds since the epoch.
    """

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._cleared_s = self._end_s + AHEAD_S
        self._routes, self._workers, self._slowest = Routes(), Workers(), Slowest()
        self._early: list[tuple[str, Batch]] = []

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers that are known."""
        return self._workers.keys

    @property
    def _end_s(self) -> int:
        return self._now_ns // NS_PER_S

    def move_to(self, now_ns: int) -> None:
        """Make a later time the present one."""
        self._now_ns = max(now_ns, self._now_ns)
        end_s = self._end_s + AHEAD_S
        if end_s > self._cleared_s:
            columns = np.arange(max(self._cleared_s, end_s - KEPT_S), end_s) % KEPT_S
            for part in (self._routes, self._workers):
                part.forget(columns, end_s - KEPT_S)
            self._slowest.forget(end_s - KEPT_S)
            self._cleared_s = end_s
            early, self._early = self._early, []
            for prefix, batch in early:
                self.add(prefix, batch)

    def add(self, prefix: str, batch: Batch) -> None:
        """Add observations; those of prefixes that are not shown are ignored.

        Observations of later seconds, by another clock, are kept until their time has come.
        """
        if prefix not in (DURATION, RUNTIME) or not len(batch.times_ns):
            return
        is_early = batch.times_ns >= self._cleared_s * NS_PER_S
        if is_early.any():
            self._early.append((prefix, batch.chosen(np.flatnonzero(is_early))))
            batch = batch.chosen(np.flatnonzero(~is_early))
            if not len(batch.times_ns):
                return
        batch = batch.chosen(np.argsort(batch.times_ns, kind="stable"))
        if prefix == RUNTIME:
            self._workers.add_samples(batch, self._workers.rows(batch), self._oldest_s)
        else:
            is_known = np.isfinite(batch.values)
            self._add_durations(batch if is_known.all() else batch.chosen(np.flatnonzero(is_known)))

    @property
    def _oldest_s(self) -> int:
        return self._cleared_s - KEPT_S

    def _add_durations(self, batch: Batch) -> None:
        rows, outcomes, are_parts = self._routes.roles(batch)
        workers = self._workers.rows(batch)
        if (outcomes >= 0).any():
            (other,) = np.nonzero(outcomes >= 0)
            pieces = pieces_of(batch.times_ns[other], self._oldest_s)
            self._routes.add_outcomes(pieces, rows[other], outcomes[other])
            self._add_server_errors(batch, workers, outcomes == _SERVER_ERROR)
            (kept,) = np.nonzero(outcomes < 0)
            batch, rows, workers = batch.chosen(kept), rows[kept], workers[kept]
            are_parts = are_parts[kept]
        pieces = pieces_of(batch.times_ns, self._oldest_s)
        self._routes.durations.add(pieces, rows, batch.values)
        if are_parts.any():
            (kept,) = np.nonzero(~are_parts)
            batch, rows, workers = batch.chosen(kept), rows[kept], workers[kept]
            pieces = pieces_of(batch.times_ns, self._oldest_s)
        self._workers.add(pieces, workers, batch.times_ns, batch.values)
        self._slowest.add(pieces, Slow(batch.times_ns, batch.values, rows, workers))

    def _add_server_errors(self, batch: Batch, workers: Integers, is_error: Any) -> None:
        pieces = pieces_of(batch.times_ns[is_error], self._oldest_s)
        self._workers.add_server_errors(pieces, workers[is_error])

    def snapshot(
        self,
        window_s: int | None,
        states: Mapping[Worker, str],
        requests: Mapping[str, Requests] = NO_REQUESTS,
        *,
        bins: int = 20,
    ) -> Snapshot:
        """Return the figures of a window.

        Args:
            window_s: Its length in seconds, at most 300; None for everything.
            states: The states of workers.
            requests: What they handle now, by their writers, where that is known.
            bins: The largest number of bins of a trend.
        """
        end_s = self._end_s
        span = None if window_s is None else Span(end_s - window_s, end_s)
        lives = self._workers.lives(states, self._now_ns)
        recorded = recorded_s(lives, span) or 1.0
        routes = self._routes.table(span, end_s, recorded, bins)
        workers = self._workers.table(span, lives, requests, self._now_ns, bins)
        return Snapshot(
            begin_ns=None if span is None else span.begin_s * NS_PER_S,
            end_ns=self._now_ns if span is None else end_s * NS_PER_S,
            recorded_s=recorded,
            routes=routes,
            workers=workers,
            slowest=self._slow_rows(span),
            totals=totals(routes, workers, recorded),
        )

    def _slow_rows(self, span: Span | None) -> list[dict[str, Any]]:
        slow = self._slowest.longest(span)
        return [
            {
                "duration_s": value,
                "label": self._routes.labels[row],
                "begin_ns": end_ns - round(value * NS_PER_S),
                "end_ns": end_ns,
                "pid": self._workers.keys[worker][0],
                "writer": self._workers.keys[worker][1],
            }
            for end_ns, value, row, worker in zip(*(each.tolist() for each in slow), strict=True)
        ]
