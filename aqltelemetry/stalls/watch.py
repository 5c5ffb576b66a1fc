"""Watches one event loop, or the requests that threads handle, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

from aqltelemetry.recording import in_flight
from aqltelemetry.stalls.cpu_limit import open_throttling_file
from aqltelemetry.stalls.evidence import Evidence
from aqltelemetry.stalls.loop_internals import queue_of, selector_of
from aqltelemetry.stalls.probe import Probe
from aqltelemetry.system.clock import pause
from aqltelemetry.system.threads import start_thread

_MS = 1_000_000
TICK_NS = 25 * _MS
"""How often the watchdog looks whether the event loop is busy."""
LATE_NS = 25 * _MS
"""The time without an answer from which on a suspected stall is sampled."""
PERIOD_NS = 5 * _MS
"""The time between two samples."""
_LONGEST_TICK_NS = 100 * _MS
_TICKS = 10
_TRIES = 40
_TRY_S = 0.05

Conclude = Callable[[Evidence], None]
"""Called with the evidence of each stall, on the thread of its probe."""


class Watch:
    """A watchdog and its probe, which run from the start on; `watch_loop` and `watch_requests`.

    `tid` is the kernel's number of the thread of the event loop; 0 if requests are watched.
    """

    def __init__(
        self, watchdog: Any, loop: asyncio.AbstractEventLoop | None, conclude: Conclude
    ) -> None:
        self.watchdog = watchdog
        self.loop = loop
        self.tid = threading.get_native_id() if loop is not None else 0
        self._pid = os.getpid()
        try:
            self._start(conclude)
        except BaseException:
            self.stop()
            raise

    def _start(self, conclude: Conclude) -> None:
        watchdog, loop = self.watchdog, self.loop
        probe = Probe(watchdog, loop, conclude)
        if loop is not None:
            loop.add_reader(watchdog.ping_fd, watchdog.answer)
        gc.callbacks.append(watchdog.collecting)
        watchdog.start()
        queue = None if loop is None else queue_of(loop)

        def run() -> None:
            watchdog.know_limit(open_throttling_file())
            if loop is not None:
                _learn(watchdog, loop, queue)
            probe.run()

        start_thread(run, "aqltelemetry-stalls")

    def stop(self) -> None:
        """Stop to watch, on any thread; in a forked child, leave everything to the parent."""
        watchdog, loop = self.watchdog, self.loop
        if watchdog.collecting in gc.callbacks:
            gc.callbacks.remove(watchdog.collecting)
        if os.getpid() != self._pid:
            # The event loop is the parent's, and shares its selector with it.
            watchdog.abandon_in_child()
            return
        if loop is not None and not loop.is_closed():
            if threading.get_native_id() == self.tid:
                loop.remove_reader(watchdog.ping_fd)
            else:
                _call_on(loop, lambda: loop.remove_reader(watchdog.ping_fd))
        watchdog.stop()


def watch_loop(module: ModuleType, threshold_ns: int, conclude: Conclude) -> Watch:
    """Watch the running event loop; `module` has the watchdog, `threshold_ns` is of its stalls.

    While the loop is blocked, a native watchdog stores in the journal that the process lives.
    """
    loop = asyncio.get_running_loop()
    late_ns = min(LATE_NS, threshold_ns)
    watchdog = module.Watchdog(loop, TICK_NS, late_ns, PERIOD_NS, threshold_ns)
    slots = in_flight.installed()
    if slots is not None and hasattr(watchdog, "know_slots"):
        with suppress(OSError):  # slots in memory are of no use for an autopsy
            watchdog.know_slots(slots)
    return Watch(watchdog, loop, conclude)


def watch_requests(
    module: ModuleType, threshold_ns: int, loop_tids: Iterable[int], conclude: Conclude
) -> Watch | None:
    """Watch the requests on threads, but for those that have event loops.

    Returns None if it can't be done: with the watchdog in Python, or without slots of requests.
    """
    slots = in_flight.installed()
    if slots is None or not hasattr(module.Watchdog, "know_slots"):
        return None
    # A thread is looked at from half of the threshold on.
    late_ns = threshold_ns // 2
    tick_ns = max(min(late_ns // _TICKS, _LONGEST_TICK_NS), TICK_NS)
    watchdog = module.Watchdog(None, tick_ns, late_ns, PERIOD_NS, threshold_ns)
    watchdog.know_slots(slots)
    watchdog.know_loops(loop_tids)
    return Watch(watchdog, None, conclude)


def _call_on(loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(work)
    except RuntimeError:  # it has been closed meanwhile
        return


def _learn(watchdog: Any, loop: asyncio.AbstractEventLoop, queue: Sequence[object] | None) -> None:
    """Find the descriptor that the loop waits on, once the loop has registered its reader."""
    for _ in range(_TRIES):
        if loop.is_closed() or watchdog.is_stopping:
            return
        selector = selector_of(watchdog.ping_fd)
        if selector >= 0:
            watchdog.know_loop(selector, queue)
            return
        pause(_TRY_S)
