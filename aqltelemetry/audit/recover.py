"""Recovery without a monitor: what the command does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal.dead_writers import Orphans, claim_orphans
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.protocols import Sink
from aqltelemetry.runtime.assembly import check_directory, csv_sink, retention_of
from aqltelemetry.runtime.delivery import read_sealed
from aqltelemetry.settings import Settings
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.system.threads import WorkerThread


@dataclass(slots=True)
class Recovered:
    """What was published: observations, of how many segments and processes.

    `damaged` segments were salvaged as far as they could be, and set aside.
    """

    observations: int = 0
    segments: int = 0
    writers: int = 0
    damaged: int = 0


def recoverer(settings: Settings, roots: Sequence[Path], share: float) -> Recoverer:
    """Return a recoverer of the writers below `roots` that publishes as `settings` says.

    Raises MonitoringDirectoryError if the directory can't be made or written to.
    """
    check_directory(settings.directory)
    sink_thread = WorkerThread("aqltelemetry-sink")
    sink = csv_sink(settings, sink_thread, retention_of(settings))
    return Recoverer(roots, sink, share, sink_thread)


class Recoverer:
    """Publishes what dead writers left below `roots`, one segment after the other.

    Takes `share` of a processor at most. Any number may be at work at once, beside
    running monitors, and be killed: a claim ends with its process.
    """

    def __init__(
        self, roots: Sequence[Path], sink: Sink, share: float, thread: WorkerThread
    ) -> None:
        self._roots = roots
        self._sink = sink
        self._share = share
        self._thread = thread

    async def run(self, progress: Callable[[int], object]) -> Recovered:
        """Publish all that is left now; `progress` is told of segments done.

        Raises OSError where something can't be published; it stays in the journal.
        """
        done = Recovered()
        for orphans in self._claims():
            try:
                done.writers += 1
                for sealed in tuple(orphans.segments):
                    started_ns = monotonic_ns()
                    await self._publish(orphans, sealed, done)
                    progress(1)
                    busy_s = (monotonic_ns() - started_ns) / NS_PER_S
                    await asyncio.sleep(busy_s * (1 / self._share - 1))
            finally:
                orphans.close()
        return done

    async def close(self) -> None:
        """Give up what is not published, and end the thread that it is done on."""
        await self._sink.close()
        self._thread.shutdown()

    def _claims(self) -> Iterator[Orphans]:
        for root in self._roots:
            yield from claim_orphans(root)

    async def _publish(self, orphans: Orphans, sealed: SealedSegment, done: Recovered) -> None:
        loop = asyncio.get_running_loop()
        done.segments += 1
        try:
            reading = await loop.run_in_executor(self._thread, read_sealed, sealed)
        except SegmentError:  # no file of ours
            done.damaged += 1
            orphans.set_aside(sealed)
            return
        except FileNotFoundError:  # somebody removed it
            orphans.discard(sealed)
            return
        await self._sink.write(reading.batch)
        await self._sink.flush()
        done.observations += reading.records
        if reading.is_whole:
            orphans.discard(sealed)
        else:
            done.damaged += 1
            orphans.set_aside(sealed)
