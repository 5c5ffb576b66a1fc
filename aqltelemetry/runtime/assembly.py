"""From settings to the parts of a session: which sampler, which sink, which journal.

This is the only module that names concrete samplers and sinks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from aqltelemetry.errors import MonitoringDirectoryError
from aqltelemetry.journal.format import has_room_for
from aqltelemetry.journal.labels import LabelLimit
from aqltelemetry.journal.location import all_roots, journal_root
from aqltelemetry.journal.writer import Origin, Writer
from aqltelemetry.protocols import Sampler
from aqltelemetry.recording.stats import Stats
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.runtime.parts import Parts, Place
from aqltelemetry.samplers.event_loop import EventLoopSampler
from aqltelemetry.samplers.garbage import GarbageSampler
from aqltelemetry.samplers.health import HealthSampler
from aqltelemetry.samplers.process import ProcessSampler
from aqltelemetry.settings import Settings, run_name
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system.clock import epoch_ns
from aqltelemetry.system.descriptors import reserve_standard_descriptors
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import WorkerThread

_DIRECTORY_MODE = 0o750


def assemble(settings: Settings, stats: Callable[[], Stats], journal_thread: WorkerThread) -> Parts:
    """Make what a session needs, off the event loop, since this does file work.

    Raises MonitoringDirectoryError where the directory is none
    or can't be written to.
    """
    reserve_standard_descriptors()
    check_directory(settings.directory)
    with ExitStack() as undo:
        sink_thread = WorkerThread("aqltelemetry-sink")
        undo.callback(sink_thread.shutdown, wait=False)
        place = _place(settings)
        undo.callback(place.close)
        samplers = _runtime_samplers(settings, journal_thread, sink_thread, stats)
        retention = retention_of(settings)
        parts = Parts(
            place=place,
            journal_roots=all_roots(settings.directory, settings.journal_dir),
            controls=ControlFiles(settings.directory),
            journal_thread=journal_thread,
            sink_thread=sink_thread,
            samplers=(*samplers, *settings.samplers),
            sinks=(csv_sink(settings, sink_thread, retention), *settings.sinks),
            retention=retention,
            interval_s=settings.interval_s,
            flush_interval_s=settings.flush_interval_s,
            max_age_s=settings.max_file_age_s,
            journal_bytes=settings.journal_bytes,
        )
        _announce(settings, place.writer.path)
        undo.pop_all()
    return parts


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


def csv_sink(settings: Settings, thread: WorkerThread, retention: Retention) -> CsvSink:
    """Return the CSV sink that the settings ask for; it works on `thread`."""
    return CsvSink(settings.directory, thread, retention, with_fsync=settings.with_fsync)


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


def _place(settings: Settings) -> Place:
    # A segment has no room for a longer name, and is published without it all the same.
    directory = settings.directory if has_room_for(settings.directory) else ""
    origin = Origin(directory, settings.max_file_bytes, epoch_ns, LabelLimit(), run_name())
    try:
        root = journal_root(settings.directory, settings.journal_dir)
        return Place(partial(Writer.in_journal, root, origin))
    except OSError as exc:
        # A journal that can't be had now won't be had later.
        log.warning("no crash-proof journal: %s; a killed process loses what is unpublished", exc)
        return Place(partial(Writer.in_memory, origin))


def _runtime_samplers(
    settings: Settings,
    journal_thread: WorkerThread,
    sink_thread: WorkerThread,
    stats: Callable[[], Stats],
) -> Sequence[Sampler]:
    if not settings.with_runtime:
        return ()
    event_loop = (EventLoopSampler(),) if settings.with_event_loop else ()
    process = ProcessSampler(journal_thread, sink_thread)
    return (GarbageSampler(), process, *event_loop, HealthSampler(stats))
