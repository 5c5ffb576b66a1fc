"""Makes the sampler of stalls that the options ask for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack

from aqltelemetry.protocols import Sampler
from aqltelemetry.settings import Settings
from aqltelemetry.stalls.details import DetailsFile
from aqltelemetry.stalls.sampler import StallSampler


def stall_samplers(
    settings: Settings, writer: str, executor: Executor, resources: ExitStack
) -> Iterator[Sampler]:
    """Yield the sampler of stalls, if it is on.

    `writer` is the name of the recording. Files are written on `executor`, and the last one is
    published when `resources` are released.
    """
    if not settings.with_runtime or not settings.with_stalls or not settings.stall_threshold_s:
        return
    details = DetailsFile(settings.directory, writer, settings.max_file_age_s, executor)
    resources.callback(details.close)
    yield StallSampler(
        settings.stall_threshold_s,
        details,
        request_threshold_s=settings.stalled_request_s,
    )
