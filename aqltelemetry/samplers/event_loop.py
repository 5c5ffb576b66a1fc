"""Measures the event loop: how late it runs, and how many tasks it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.protocols import Append
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns

EVENT_LOOP_LAG = "event loop lag"
TASKS = "tasks"
TICK_S = 0.1


class EventLoopSampler:
    """Measures how late a tick runs every 100 ms, and counts tasks at each sample.

    Each tick is one observation of `event loop lag`, in seconds: its delay against a fixed
    grid of times. Ticks that a blocked loop missed are skipped. A delay below the resolution
    of the loop's timers, about 1 ms, is noise. `tasks` is the number of tasks.
    """

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self, tick_s: float = TICK_S) -> None:
        self._tick_ns = round(tick_s * NS_PER_S)
        self._append: Append | None = None
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    async def sample(self) -> Sequence[Measurement]:
        """Return the number of tasks."""
        return (Measurement(TASKS, count_tasks()),)

    def attach(self, append: Append) -> None:
        """Start to tick on the running event loop."""
        self._append = append
        self._loop = asyncio.get_running_loop()
        self._due_ns = monotonic_ns() + self._tick_ns
        self._timer = self._loop.call_later(self._tick_ns / NS_PER_S, self._tick)

    def mute(self) -> None:
        """Stop recording ticks, on any thread; the next tick is the last one."""
        self._append = None

    def detach(self) -> None:
        """Stop ticking."""
        self._append = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        append = self._append
        if append is None:
            return
        now_ns = monotonic_ns()
        late_ns = now_ns - self._due_ns
        append(EVENT_LOOP_LAG, max(late_ns, 0) / NS_PER_S)
        self._due_ns += self._tick_ns * (1 + max(late_ns, 0) // self._tick_ns)
        self._timer = self._loop.call_later((self._due_ns - now_ns) / NS_PER_S, self._tick)


def count_tasks() -> int:
    """Return the number of asyncio tasks in the process.

    `asyncio.all_tasks` copies and filters all tasks, which takes milliseconds if there are
    many; before Python 3.14, the size of its registry is used instead. It includes tasks that
    are done and still referenced.
    """
    for name in ("_all_tasks", "_scheduled_tasks"):
        registry = getattr(asyncio.tasks, name, None)
        if registry is not None and len(registry):
            return len(registry)
    return len(asyncio.all_tasks())
