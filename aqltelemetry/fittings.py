"""From settings to samplers and sinks; the only module that names concrete ones.

A start has it imported by the thread of the sinks, while the journal is made ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from aqltelemetry.parts import Fittings
from aqltelemetry.protocols import Sampler
from aqltelemetry.samplers.event_loop import EventLoopSampler
from aqltelemetry.samplers.garbage import GarbageSampler
from aqltelemetry.samplers.health import HealthSampler
from aqltelemetry.samplers.process import ProcessSampler
from aqltelemetry.settings import Settings
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.stats import Stats


def make_fittings(
    settings: Settings, stats: Callable[[], Stats], keeper_thread: Executor, sink_thread: Executor
) -> Fittings:
    """Make the samplers and sinks of a recording, the user's last."""
    return Fittings(
        samplers=(*_runtime_samplers(settings, keeper_thread, stats), *settings.samplers),
        sinks=(csv_sink(settings, sink_thread), *settings.sinks),
    )


def csv_sink(settings: Settings, thread: Executor) -> CsvSink:
    """Make the sink of the CSV files, which works on a thread."""
    retention = Retention(settings.directory, settings.keep_bytes, settings.keep_s)
    return CsvSink(settings.directory, thread, retention, with_fsync=settings.with_fsync)


def _runtime_samplers(
    settings: Settings, keeper_thread: Executor, stats: Callable[[], Stats]
) -> Sequence[Sampler]:
    if not settings.with_runtime:
        return ()
    event_loop = (EventLoopSampler(),) if settings.with_event_loop else ()
    return (GarbageSampler(), ProcessSampler(keeper_thread), *event_loop, HealthSampler(stats))
