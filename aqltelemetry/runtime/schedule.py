"""Runs a sampler at fixed intervals; ends tasks, and work that exceeds a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aqltelemetry.protocols import Sampler
from aqltelemetry.system.logs import log


class Schedule:
    """Takes samples of one sampler, at absolute deadlines of the event loop's clock.

    So the duration of a sample does not add to the interval. A deadline that has passed
    is counted in `missed` and skipped. An exception of the sampler is counted in `errors`, and
    logged once for each type.
    """

    def __init__(
        self, sampler: Sampler, interval_s: float, append: Callable[[tuple[str, str], float], None]
    ) -> None:
        self.sampler = sampler
        self.missed = 0
        self.errors = 0
        self._interval_s = interval_s
        self._append = append
        self._logged: set[type[BaseException]] = set()

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._interval_s
        while True:
            await asyncio.sleep(due_s - loop.time())
            await self.sample()
            missed = max(int((loop.time() - due_s) // self._interval_s), 0)
            self.missed += missed
            due_s += (missed + 1) * self._interval_s

    async def sample(self) -> None:
        """Take one sample now and record it."""
        try:
            measurements = await self.sampler.sample()
            for label, value in measurements:
                self._append((self.sampler.prefix, label), value)
        except Exception as exc:  # noqa: BLE001 - a sampler's fault is not the application's
            self.errors += 1
            if type(exc) not in self._logged:
                self._logged.add(type(exc))
                log.exception("sampler %r failed; it stays on schedule", self.sampler)


@asynccontextmanager
async def within(deadline_s: float) -> AsyncIterator[None]:
    """Cancel the block at a time of the event loop's clock, without an error."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(deadline_s):
            yield


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
