"""Makes the parts of a session from its settings: samplers, sinks, journal, control.

This is the only module that names concrete sinks; `samplers.built_in` lists the samplers.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from mmap import mmap
from pathlib import Path

from aqltelemetry.autopsy.publication import publish_autopsy
from aqltelemetry.errors import MonitoringDirectoryError
from aqltelemetry.journal.dead_writers import DeadWriter
from aqltelemetry.journal.format import has_room_for
from aqltelemetry.journal.in_flight import (
    ALIVE_AT,
    OOM_KILLS_AT,
    OOM_SOURCE_AT,
    pack_alive,
    pack_count,
    pack_source,
)
from aqltelemetry.journal.labels import LabelLimit
from aqltelemetry.journal.location import all_roots, journal_root
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.journal.writer import Writer, WriterOptions
from aqltelemetry.recording.in_flight import known_routes
from aqltelemetry.recording.segment_pool import SegmentPool
from aqltelemetry.recording.stats import Stats
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.runtime.control_task import ControlTask, NewProfiler
from aqltelemetry.runtime.delivery import Delivery, Release, SegmentQueue
from aqltelemetry.runtime.recovery import Recovery
from aqltelemetry.runtime.session import Journal, Parts, StartContext
from aqltelemetry.samplers.built_in import built_in_samplers
from aqltelemetry.settings import Settings, run_name
from aqltelemetry.sinks.built_in import built_in_sinks
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.stalls.built_in import stall_samplers
from aqltelemetry.system.clock import Anchor, epoch_ns, read_anchor
from aqltelemetry.system.descriptors import reserve_standard_descriptors
from aqltelemetry.system.kernel import boot_id, find_oom_counter, read_oom_kills
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import WorkerThread

_DIRECTORY_MODE = 0o750


def assemble(
    settings: Settings,
    stats: Callable[[], Stats],
    new_profiler: NewProfiler,
    context: StartContext,
) -> Parts:
    """Make the parts of a session, on the journal's thread, since this does file work.

    `context.resources` gets what releases them, also those made before an exception. Raises
    MonitoringDirectoryError if the directory is not one, or is not writable.
    """
    loop, journal_thread, resources = context
    _prepare(settings, resources)
    sink_thread = WorkerThread("aqltelemetry-sink")
    resources.callback(sink_thread.shutdown, wait=False)
    retention = retention_of(settings)
    sinks = (*built_in_sinks(settings, sink_thread, retention), *settings.sinks)
    queue = SegmentQueue(loop, sinks)
    journal = _open_journal(settings, queue, journal_thread, resources)
    recovery = _recovery(settings, roots := _roots(settings), queue, sink_thread)
    resources.callback(recovery.close)
    files = ControlFiles(settings.directory)
    control = ControlTask(files, journal.writer.name, journal.recording, new_profiler)
    resources.callback(control.end)
    delivery = Delivery(
        queue,
        sink_thread,
        _releaser(journal_thread, journal.pool, recovery),
        settings.max_file_age_s,
        # Before the limit is reached, so that there is room for what is recorded meanwhile.
        lambda: journal.pool.journal_bytes > settings.journal_bytes // 2,
    )
    samplers = built_in_samplers(settings, stats, journal_thread, sink_thread)
    stalls = stall_samplers(settings, journal.writer.name, sink_thread, resources)
    _announce(settings, journal.writer.path)
    return Parts(
        settings=settings,
        journal=journal,
        journal_roots=roots,
        journal_thread=journal_thread,
        sink_thread=sink_thread,
        queue=queue,
        delivery=delivery,
        recovery=recovery,
        control=control,
        samplers=(*samplers, *stalls, *settings.samplers),
        sinks=sinks,
        retention=retention,
        resources=resources,
    )


def _prepare(settings: Settings, resources: ExitStack) -> None:
    reserve_standard_descriptors()
    check_directory(settings.directory)
    if settings.ship_to:
        from aqltelemetry.runtime.shipping_process import (  # noqa: PLC0415 - most need none of it
            shipping_process,
        )

        process = shipping_process(settings.directory, settings.ship_to)
        process.start()
        resources.callback(process.end)
    if settings.with_dump:
        from aqltelemetry.runtime.dump_process import dump_process  # noqa: PLC0415 - as above

        process = dump_process(settings)
        process.start()
        resources.callback(process.end)
    if settings.compact_after_s:
        from aqltelemetry.runtime.shipping_process import (  # noqa: PLC0415 - as above
            archiving_process,
        )

        archiving = archiving_process(settings)
        if archiving is not None:
            archiving.start()
            resources.callback(archiving.end)


def _roots(settings: Settings) -> Sequence[Path]:
    return all_roots(settings.directory, settings.journal_dir)


def _recovery(
    settings: Settings, roots: Sequence[Path], queue: SegmentQueue, sink_thread: WorkerThread
) -> Recovery:
    def examine(dead: DeadWriter) -> None:
        # Not on the journal's thread, which makes segments.
        sink_thread.post(partial(publish_autopsy, settings.directory, dead))

    return Recovery(roots, queue.put, examine=examine)


def _releaser(thread: WorkerThread, pool: SegmentPool, recovery: Recovery) -> Release:
    def release(sealed: SealedSegment, records: int | None) -> None:
        owner = recovery.release if sealed.recovered else pool.release
        thread.post(partial(owner, sealed, records))

    return release


def _announce(settings: Settings, journal: Path | None) -> None:
    log.info(
        "recording process %d into %s (journal %s, keeping %d MiB or %g days)",
        os.getpid(),
        settings.directory,
        "in memory" if journal is None else journal.parent,
        settings.keep_bytes >> 20,
        settings.keep_s / 86400,
    )


def retention_of(settings: Settings) -> Retention:
    """Return the retention that the settings ask for."""
    return Retention(settings.directory, settings.keep_bytes, settings.keep_s)


def check_directory(directory: str) -> None:
    """Make the monitoring directory if it is missing, and see that files can be made in it.

    Raises MonitoringDirectoryError.
    """
    try:
        os.makedirs(directory, _DIRECTORY_MODE, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".aqltelemetry-", suffix=".tmp"):
            pass
    except FileExistsError:
        raise MonitoringDirectoryError(directory, "must be a directory, not a file") from None
    except OSError as exc:
        rule = f"must be a directory that this process can write to ({exc.strerror})"
        raise MonitoringDirectoryError(directory, rule) from exc


def _open_journal(
    settings: Settings, queue: SegmentQueue, thread: WorkerThread, resources: ExitStack
) -> Journal:
    # A segment has no room for a longer name, and is published without it all the same.
    directory = settings.directory if has_room_for(settings.directory) else ""
    origin = WriterOptions(directory, settings.max_file_bytes, epoch_ns, LabelLimit(), run_name())

    def open_by(new_writer: Callable[[], Writer]) -> Journal:
        with ExitStack() as undo:
            writer = new_writer()
            undo.callback(writer.close)
            pool = SegmentPool(thread, writer, queue.put, settings.journal_bytes, queue.is_behind)
            undo.callback(pool.close)
            anchor = read_anchor()
            recording = pool.open(writer.new_segment(), anchor)
            in_flight = _make_in_flight(writer, anchor)
            writer.store_routes(known_routes())
            resources.push(undo.pop_all())
        return Journal(new_writer, writer, pool, recording, in_flight)

    try:
        root = journal_root(settings.directory, settings.journal_dir)
        return open_by(partial(Writer.in_journal, root, origin))
    except OSError as exc:
        # A journal that can't be created now can't be created later.
        log.warning("no crash-proof journal: %s; a killed process loses what is unpublished", exc)
        return open_by(partial(Writer.in_memory, origin))


def _make_in_flight(writer: Writer, anchor: Anchor) -> mmap | None:
    try:
        mapped = writer.make_in_flight(*anchor, boot_id())
    except OSError as exc:
        log.warning("the requests in flight are not stored: %s", exc)
        return None
    mapped[ALIVE_AT : ALIVE_AT + 16] = pack_alive(*anchor)
    source = pack_source(counter := find_oom_counter())
    mapped[OOM_SOURCE_AT : OOM_SOURCE_AT + len(source)] = source
    mapped[OOM_KILLS_AT : OOM_KILLS_AT + 8] = pack_count(read_oom_kills(counter))
    return mapped
