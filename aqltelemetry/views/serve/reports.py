"""Makes the report of a recording on a thread of its own, less often than the strips.

A report of millions of observations takes seconds. Meanwhile the strips go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.threads import WorkerThread
from aqltelemetry.views.document import Options, document
from aqltelemetry.views.findings.find import find
from aqltelemetry.views.findings.finding import Finding
from aqltelemetry.views.serve.pace import Pace
from aqltelemetry.views.serve.plain_json import as_json

_SLOWEST = 50
_KEPT = 4
_SHARE_OF_FIGURES = 0.03
_SHARE_OF_FINDINGS = 0.015
_FINDINGS_LEAST_S = 5.0


class Observations(NamedTuple):
    """What was recorded up to a moment."""

    number: int
    """Grows with each change."""
    db: TelemetryDB
    """It is used on another thread, and so does not change."""


class _Made(NamedTuple):
    number: int
    body: bytes


class Reports:
    """Makes reports as JSON, and keeps them.

    Args:
        observe: Returns a future of the newest observations.
        least_s: The shortest time in seconds between two reports.
        clock_ns: A monotonic clock in nanoseconds.

    Attributes:
        number: Grows by one with each report that is made.
    """

    def __init__(
        self,
        observe: Callable[[], Future[Observations]],
        least_s: float,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.number = 0
        self._observe = observe
        self._thread = WorkerThread("aqltelemetry-report")
        self._figures = Pace(_SHARE_OF_FIGURES, least_s, clock_ns=clock_ns)
        self._finding = Pace(_SHARE_OF_FINDINGS, _FINDINGS_LEAST_S, clock_ns=clock_ns)
        self._findings: Sequence[Finding] = ()
        self._kept: dict[int, _Made] = {}
        self._is_renewing = False

    def get(self, top: int) -> Future[bytes]:
        """Return the report with so many rows of each table, 0 for all.

        It may be an earlier one, if a newer one would take too much time.
        """
        return self._thread.submit(self._get, top)

    def renew(self, number: int) -> None:
        """Replace a report of earlier observations, if there is one and it is due.

        Args:
            number: That of the newest observations.
        """
        kept = [top for top, made in tuple(self._kept.items()) if made.number != number]
        if kept and self._figures.is_due and not self._is_renewing:
            self._is_renewing = True
            self._thread.post(lambda: self._renew(kept[-1]))

    def close(self, then: Callable[[], object]) -> None:
        """End the thread after what it was asked for, and call `then` on it."""
        self._thread.post(then)
        self._thread.shutdown()

    def _renew(self, top: int) -> None:
        try:
            self._get(top)
        finally:
            self._is_renewing = False

    def _get(self, top: int) -> bytes:
        number, db = self._observe().result()
        made = self._kept.get(top)
        if made is not None and (made.number == number or not self._figures.is_due):
            return made.body
        if self._finding.is_due:
            with self._finding.begin():
                self._findings = find(db)
        with self._figures.begin():
            options = Options(top=top, slowest=_SLOWEST)
            body = as_json(document(db, options, findings=self._findings))
        self._kept.pop(top, None)
        while len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[top] = _Made(number, body)
        self.number += 1
        return body
