"""Measures the process: CPU time, memory, open files, threads, context switches."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.system.forks import forks_wait

if TYPE_CHECKING:
    import psutil

USER_TIME = "user time"
SYSTEM_TIME = "system time"
MAX_RSS = "max rss"
RSS = "rss"
CPU_PERCENT = "cpu percent"
OPEN_FDS = "open fds"
THREADS = "threads"
VOLUNTARY_SWITCHES = "context switches voluntary"
INVOLUNTARY_SWITCHES = "context switches involuntary"


def open_process() -> psutil.Process:
    """Load psutil and return this process."""
    with forks_wait():
        import psutil  # noqa: PLC0415 - loading takes long compared with a start

    return psutil.Process()


class ProcessSampler:
    """Samples getrusage(2) and what psutil reads of the process.

    `user time` and `system time` are seconds since the start of the process; `max rss` is in
    kilobytes on Linux and in bytes on macOS, as in getrusage(2); `rss` is in bytes; `cpu
    percent` is relative to one processor, over the time since the last sample; the first sample
    has none. Everything is read on `executor`, since listing the open files of a busy server
    takes long. The first sample calls `process` on `loader`, which loads psutil.
    """

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(
        self,
        executor: Executor,
        loader: Executor,
        process: Callable[[], psutil.Process] = open_process,
    ) -> None:
        self._executor = executor
        self._loader = loader
        self._open_process = process
        self._process: Future[psutil.Process] | None = None
        self._has_sampled = False

    async def sample(self) -> Sequence[Measurement]:
        """Return what the process has used so far and uses now."""
        loading = self._process
        if loading is None or (loading.done() and (loading.cancelled() or loading.exception())):
            loading = self._process = self._loader.submit(self._open_process)
        # After a cancelled sample, the next one waits for the same load.
        process = await asyncio.shield(asyncio.wrap_future(loading))
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, process)

    def _read(self, process: psutil.Process) -> Sequence[Measurement]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with process.oneshot():
            found = [
                Measurement(USER_TIME, usage.ru_utime),
                Measurement(SYSTEM_TIME, usage.ru_stime),
                Measurement(MAX_RSS, usage.ru_maxrss),
                Measurement(RSS, process.memory_info().rss),
                Measurement(CPU_PERCENT, process.cpu_percent()),
                Measurement(OPEN_FDS, process.num_fds()),
                Measurement(THREADS, process.num_threads()),
                Measurement(VOLUNTARY_SWITCHES, usage.ru_nvcsw),
                Measurement(INVOLUNTARY_SWITCHES, usage.ru_nivcsw),
            ]
        if not self._has_sampled:
            # Over the milliseconds since psutil was loaded, a tick of the processor's clock is
            # more than 100 percent.
            found = [each for each in found if each.label != CPU_PERCENT]
            self._has_sampled = True
        return found
