"""Recovers what killed processes left in the journal, without a running monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from aqltelemetry.autopsy.publication import publish_autopsy
from aqltelemetry.errors import SegmentError
from aqltelemetry.journal.dead_writers import DeadWriter, lock_dead_writers
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.protocols import Sink
from aqltelemetry.runtime.assembly import check_directory, retention_of
from aqltelemetry.runtime.delivery import read_sealed
from aqltelemetry.settings import Settings
from aqltelemetry.sinks import stall_details
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.system.threads import WorkerThread


@dataclass(slots=True)
class Recovered:
    """The number of observations, segments and writers that were published.

    `damaged` segments were read as far as possible, and set aside. `autopsies` were published.
    """

    observations: int = 0
    segments: int = 0
    writers: int = 0
    damaged: int = 0
    autopsies: int = 0


async def recover(
    settings: Settings,
    roots: Sequence[Path],
    progress: Callable[[int], object] = lambda _: None,
    share: float = 0.5,
    running: Container[str] = (),
) -> Recovered:
    """Publish what dead writers left below `roots`, using at most `share` of a processor.

    Several processes may do this at the same time, next to running monitors, and may be killed.
    `progress` is called with the number of segments just done. Of the writers in `running`, whose
    segments were copied from a journal that is in use, no end is published.

    Raises OSError if something can't be published; it stays in the journal. Raises
    MonitoringDirectoryError if the directory can't be created or written to.
    """
    check_directory(settings.directory)
    thread = WorkerThread("aqltelemetry-sink")
    retention = retention_of(settings)
    sink = CsvSink(settings.directory, thread, retention, with_fsync=settings.with_fsync)
    done = Recovered()
    await asyncio.get_running_loop().run_in_executor(
        thread, stall_details.recover, settings.directory
    )
    try:
        for dead in (dead for root in roots for dead in lock_dead_writers(root)):
            done.writers += 1
            try:
                for sealed in tuple(dead.segments):
                    sealed.is_last = sealed.is_last and sealed.id.writer not in running
                    started_ns = monotonic_ns()
                    await _publish(dead, sealed, sink, thread, done)
                    progress(1)
                    busy_s = (monotonic_ns() - started_ns) / NS_PER_S
                    await asyncio.sleep(busy_s * (1 / share - 1))
                if not dead.segments and dead.has_evidence:
                    done.autopsies += await asyncio.get_running_loop().run_in_executor(
                        thread, publish_autopsy, settings.directory, dead
                    )
            finally:
                dead.close()
    finally:
        await sink.close()
        thread.shutdown()
    return done


async def _publish(
    dead: DeadWriter, sealed: SealedSegment, sink: Sink, thread: WorkerThread, done: Recovered
) -> None:
    loop = asyncio.get_running_loop()
    done.segments += 1
    try:
        reading = await loop.run_in_executor(thread, read_sealed, sealed)
    except SegmentError:  # not a segment
        done.damaged += 1
        dead.set_aside(sealed)
        return
    except FileNotFoundError:  # another process removed it
        dead.discard(sealed)
        return
    await sink.write(reading.batch)
    await sink.flush()
    done.observations += reading.records
    if reading.is_whole:
        dead.discard(sealed)
    else:
        done.damaged += 1
        dead.set_aside(sealed)
