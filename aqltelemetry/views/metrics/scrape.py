"""Answers scrapes of Prometheus: reads what is new since the last one, and returns all totals.

Only the rows that are new are read, so a scrape costs what was recorded since the last one. It
stops reading after `budget_s`, and the next scrape continues. What was recorded before the
exporter started is not counted: a counter that begins with a past of its own would appear, after
a restart of the exporter, as if all of it had happened at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from aqltelemetry.reading.rows import Rows
from aqltelemetry.shipping.metrics.buckets import DEFAULT_BOUNDS, Bounds
from aqltelemetry.system.clock import NS_PER_S, epoch_ns, monotonic_ns, thread_cpu_ns
from aqltelemetry.system.threads import WorkerThread
from aqltelemetry.views.live.new_rows import NewRows
from aqltelemetry.views.metrics.collector import Reading, TotalsCollector
from aqltelemetry.views.metrics.missed import MissedFiles
from aqltelemetry.views.metrics.totals import Totals

BUDGET_S = 5.0
"""The time in seconds after which a scrape reads no further file; Prometheus waits for 10 s."""
_SHOWN_NS = 300 * NS_PER_S


class Scraped(NamedTuple):
    """The response to a scrape."""

    body: bytes
    content_type: str


class Scrapes:
    """Answers scrapes on a thread of its own, one after the other.

    Args:
        directories: The monitoring directories; they must exist.
        journal_dir: The option `journal_dir` of the recording, if it had one.
        bounds: The bounds of the histograms of durations, in seconds.
        budget_s: The time in seconds after which a scrape reads no further file.
        clock_ns: A monotonic clock in nanoseconds.
        now_ns: Returns the present time, in nanoseconds since the epoch.
    """

    def __init__(  # noqa: PLR0913 - most have a default
        self,
        directories: Sequence[str],
        journal_dir: str | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
        budget_s: float = BUDGET_S,
        *,
        clock_ns: Callable[[], int] = monotonic_ns,
        now_ns: Callable[[], int] = epoch_ns,
    ) -> None:
        since_ns = now_ns()
        self._new = NewRows(directories, None, since_ns=since_ns, journal_dir=journal_dir)
        self._missed = MissedFiles(self._new.sources)
        self._totals = Totals(since_ns, bounds)
        self._budget_ns = int(budget_s * NS_PER_S)
        self._clock_ns = clock_ns
        self._now_ns = now_ns
        self._since_ns = since_ns
        self._left: Iterator[tuple[str, Rows]] | None = None
        self._cpu_ns = 0
        self._has_read = False
        self._thread = WorkerThread("aqltelemetry-scrapes")
        # Which recordings are older is known now only.
        self._thread.post(self._read)

    def scrape(self, accept: str) -> Future[Scraped]:
        """Return all metrics, in the format that an Accept header asks for.

        The future raises OSError or MonitoringDirectoryError if a directory can't be read.
        """
        return self._thread.submit(self._scrape, accept)

    def close(self) -> None:
        """End the thread after the scrapes that were asked for."""
        self._thread.shutdown()

    def running(self) -> Future[bool]:
        """Return whether a process records into the directories, as far as is known."""
        return self._thread.submit(self._is_recorded)

    def _is_recorded(self) -> bool:
        self._new.sources.refresh()
        return bool(self._new.sources.running)

    def _scrape(self, accept: str) -> Scraped:
        is_behind = not self._read()
        registry = CollectorRegistry(auto_describe=False)
        missed = self._missed.files + self._new.gone
        reading = Reading(self._running(), self._cpu_ns / NS_PER_S, missed, is_behind)
        registry.register(TotalsCollector(self._totals, reading))
        encode, content_type = choose_encoder(accept)
        return Scraped(encode(registry), content_type)

    def _read(self) -> bool:
        """Read what is new, within the budget; return whether all of it was read."""
        until_ns = self._clock_ns() + self._budget_ns
        began_ns = thread_cpu_ns()
        try:
            if self._left is None:
                self._left = self._new.read()
            for prefix, rows in self._left:
                self._note_older()
                self._totals.add(prefix, rows)
                if self._clock_ns() > until_ns:
                    return False
            self._note_older()
            self._missed.look()
            self._left = None
        except BaseException:
            self._left = None
            raise
        finally:
            self._cpu_ns += thread_cpu_ns() - began_ns
        return True

    def _note_older(self) -> None:
        """Note, at the first time, the recordings that are there already."""
        if not self._has_read:
            self._has_read = True
            sources = self._new.sources
            names = (name for _, name in sources.published())
            older = {name.writer for name in names if name.from_ns < self._since_ns}
            self._totals.note_older(older | sources.running)

    def _running(self) -> set[str]:
        """Return the writers that go on: by their locks, or by the age of their last sample."""
        running = {*self._new.sources.running}
        latest_ns = self._now_ns() - _SHOWN_NS
        for writer, worker in self._totals.workers.items():
            if worker.is_stopped is None and worker.last_ns > latest_ns:
                running.add(writer)
        return running
