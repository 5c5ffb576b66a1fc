"""The figures of workers: their durations, and what their samplers measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aqltelemetry.reading.writers import UNKNOWN
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.batch import Batch, Worker
from aqltelemetry.views.live.buckets import Floats, Integers
from aqltelemetry.views.live.groups import Groups, Pieces, pieces_of
from aqltelemetry.views.live.latest import Latest, Life, Requests, is_latest, recorded_s
from aqltelemetry.views.live.routes import known, numbers
from aqltelemetry.views.live.seconds import Ring, Span

_LAG, _PAUSE, _CPU = "event loop lag", "gc pause", "cpu percent"


class Workers:
    """The figures of each worker."""

    def __init__(self) -> None:
        self.keys: list[Worker] = []
        self._rows: dict[Worker, int] = {}
        self._latest: list[Latest] = []
        self._errors, self._errors_ever = Ring(), np.zeros(0, np.int64)
        self._durations = Groups()
        self._sampled = {label: Groups() for label in (_LAG, _PAUSE, _CPU)}

    def rows(self, batch: Batch) -> Integers:
        """Return each observation's row."""
        rows = np.array([self._row(worker) for worker in batch.workers], np.int64)
        return rows[batch.worker_codes]

    def _row(self, worker: Worker) -> int:
        row = self._rows.setdefault(worker, len(self.keys))
        if row == len(self.keys):
            self.keys.append(worker)
            self._latest.append(Latest())
            self._errors.reserve(row + 1)
            self._errors_ever = np.append(self._errors_ever, 0)
            for groups in (self._durations, *self._sampled.values()):
                groups.reserve(row + 1)
        return row

    def add(self, pieces: Pieces, rows: Integers, times_ns: Integers, values: Floats) -> None:
        """Add durations, sorted as `pieces` describes."""
        self._durations.add(pieces, rows, values)
        begins_ns = times_ns - (values * NS_PER_S).astype(np.int64)
        for row, own in _by_row(rows):
            self._latest[row].see(begins_ns[own], times_ns[own])
            self._latest[row].busy.add(begins_ns[own], times_ns[own])

    def add_server_errors(self, pieces: Pieces, rows: Integers) -> None:
        """Add requests that failed with a status of 500 or more."""
        self._errors_ever += np.bincount(rows, minlength=len(self.keys))
        for second, piece in pieces.kept:
            self._errors.add(second, np.bincount(rows[piece]))

    def add_samples(self, batch: Batch, rows: Integers, oldest_s: int) -> None:
        """Add samples, sorted by time; `rows` has the row of each."""
        for row, own in _by_row(rows):
            self._latest[row].see(batch.times_ns[own], batch.times_ns[own])
        for code, label in enumerate(batch.labels):
            if label in self._sampled or is_latest(label):
                chosen = np.flatnonzero((batch.label_codes == code) & np.isfinite(batch.values))
                self._add_label(
                    label, rows[chosen], batch.times_ns[chosen], batch.values[chosen], oldest_s
                )

    def _add_label(
        self, label: str, rows: Integers, times_ns: Integers, values: Floats, oldest_s: int
    ) -> None:
        if label in self._sampled:
            self._sampled[label].add(pieces_of(times_ns, oldest_s), rows, values)
        else:
            for row, own in _by_row(rows):
                self._latest[row].sample(label, times_ns[own], values[own])

    def forget(self, columns: Integers, before_s: int) -> None:
        """Forget the seconds before `before_s`; see `Groups.forget`."""
        self._errors.forget(columns)
        for groups in (self._durations, *self._sampled.values()):
            groups.forget(columns, before_s)

    def lives(self, states: Mapping[Worker, str], now_ns: int) -> list[Life]:
        """Return when each worker recorded, and its state."""
        return [
            latest.life(states.get(worker, UNKNOWN), now_ns)
            for worker, latest in zip(self.keys, self._latest, strict=True)
        ]

    def table(
        self,
        span: Span | None,
        lives: Sequence[Life],
        requests: Mapping[str, Requests],
        now_ns: int,
        bins: int,
    ) -> list[dict[str, Any]]:
        """Return a row for each worker that recorded in a span, or ever, as a dict."""
        rows = [row for row, life in enumerate(lives) if recorded_s([life], span) is not None]
        recorded = {row: recorded_s([lives[row]], span) or 1.0 for row in rows}
        durations = self._durations.figures(span)
        errors = self._errors_ever if span is None else self._errors.over(span).sum(axis=1)
        trends = self._durations.trends(span, now_ns // NS_PER_S, bins)
        sampled = self._sampled_figures(span, recorded)
        return [
            {
                **self._identity(row, lives[row], requests, now_ns),
                **numbers(durations, row, recorded[row]),
                **sampled[row],
                "errors_5xx": int(errors[row]),
                "busy": min(self._latest[row].busy.busy_s(span) / recorded[row], 1.0),
                "trend": trends[row].tolist(),
            }
            for row in rows
        ]

    def _identity(
        self, row: int, life: Life, requests: Mapping[str, Requests], now_ns: int
    ) -> Mapping[str, Any]:
        latest, (pid, writer) = self._latest[row], self.keys[row]
        in_flight = latest.in_flight if life.may_run else None
        since_ns: int | None = latest.in_flight_since_ns
        served = requests.get(writer)
        # A worker that is stuck takes no samples; one that serves nothing never takes any.
        if life.may_run and served is not None and (served.number or in_flight is not None):
            in_flight, since_ns = float(served.number), served.oldest_ns
        return {
            "pid": pid,
            "writer": writer,
            **life._asdict(),
            "in_flight": in_flight,
            "in_flight_s": None
            if in_flight is None or since_ns is None
            else max(now_ns - since_ns, 0) / NS_PER_S,
            "age_s": max(now_ns - life.begin_ns, 0) / NS_PER_S,
            "rss_bytes": latest.rss_bytes,
            "dropped": latest.dropped,
        }

    def _sampled_figures(
        self, span: Span | None, recorded: Mapping[int, float]
    ) -> Mapping[int, Mapping[str, Any]]:
        lag, pauses, cpu = (groups.figures(span) for groups in self._sampled.values())
        means = cpu.sums / np.where(cpu.counts, cpu.counts, np.nan)
        return {
            row: {
                "cpu_percent": known(means, row),
                "lag_p99_s": known(lag.p99, row),
                "lag_max_s": known(lag.maxima, row),
                "gc_pauses": int(pauses.counts[row]),
                "gc_share": float(pauses.sums[row]) / seconds,
                "gc_pause_max_s": known(pauses.maxima, row),
            }
            for row, seconds in recorded.items()
        }


def _by_row(rows: Integers) -> list[tuple[int, Integers]]:
    """Return each row that occurs, and where; in order."""
    return [
        (row, np.flatnonzero(rows == row)) for row in np.flatnonzero(np.bincount(rows)).tolist()
    ]
