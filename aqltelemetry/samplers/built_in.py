"""The built-in samplers, which the option `with_runtime` switches on.

To add one: write `samplers/<name>.py` with a class like those there, and list it below.
`aqltelemetry.protocols.Sampler` describes the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor

from aqltelemetry.protocols import Sampler
from aqltelemetry.recording.stats import Stats
from aqltelemetry.samplers import event_loop, garbage, health, process
from aqltelemetry.settings import Settings


def built_in_samplers(
    settings: Settings, stats: Callable[[], Stats], executor: Executor, loader: Executor
) -> Iterator[Sampler]:
    """Yield the built-in samplers that the settings ask for.

    `stats` returns the statistics of the recording. Blocking work runs on `executor`, and
    what takes long once, such as loading a library, on `loader`.
    """
    if not settings.with_runtime:
        return
    yield garbage.GarbageSampler()
    yield process.ProcessSampler(executor, loader)
    if settings.with_event_loop:
        yield event_loop.EventLoopSampler()
    yield health.HealthSampler(stats)
