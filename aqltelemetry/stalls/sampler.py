"""Records the stalls of the event loop that the recording runs on."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

from aqltelemetry.observation import STALL, Measurement
from aqltelemetry.protocols import Append
from aqltelemetry.stalls.cpu_limit import open_throttling_file
from aqltelemetry.stalls.episode import Episode, conclude
from aqltelemetry.stalls.evidence import Evidence
from aqltelemetry.stalls.loop_internals import queue_of, selector_of
from aqltelemetry.stalls.probe import Probe
from aqltelemetry.system.clock import NS_PER_S, pause, read_anchor
from aqltelemetry.system.extensions import choose
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import is_own, start_thread
from aqltelemetry.system.unpatched import are_greenlets

_MS = 1_000_000
TICK_NS = 25 * _MS
"""How often the watchdog looks whether the event loop is busy."""
LATE_NS = 25 * _MS
"""The time without an answer from which on a suspected stall is sampled."""
PERIOD_NS = 5 * _MS
"""The time between two samples."""
_TRIES = 40
_TRY_S = 0.05


class Keeper(Protocol):
    """Keeps the details of stalls."""

    def add(self, detail: Mapping[str, Any]) -> None:
        """Keep the details of a stall; called on a thread that may wait."""
        ...

    async def tend(self) -> None:
        """Publish what is old; called about once a second, on the event loop."""
        ...

    def abandon_in_child(self) -> None:
        """Leave the files to the parent process."""
        ...


class StallSampler:
    """Records each time above `threshold_s` in which the event loop did not answer.

    One observation is one stall: its value is the length in seconds, its label the cause, one
    of `causes.CAUSES`. `details` gets everything else that was found. An event loop that only
    the recording uses is not watched, and neither is one whose thread has greenlets.
    """

    prefix = STALL
    interval_s: float | None = None

    def __init__(
        self,
        threshold_s: float,
        details: Keeper | None = None,
        twin: Callable[[str], ModuleType] = choose,
    ) -> None:
        self._threshold_ns = round(threshold_s * NS_PER_S)
        self._details = details
        self._twin = twin
        self._append: Append | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self.watchdog: Any = None
        self.on_evidence: Callable[[Evidence], None] | None = None
        """Called with the evidence of each stall, on the probe's thread; for measurements."""

    async def sample(self) -> Sequence[Measurement]:
        """Return nothing, and let the details be published."""
        if self._details is not None:
            await self._details.tend()
        return ()

    def attach(self, append: Append) -> None:
        """Start to watch the running event loop, unless it is the recording's own."""
        if is_own(threading.get_ident()) or are_greenlets():
            log.info("stalls are not recorded: the recording has an event loop of its own")
            return
        loop = asyncio.get_running_loop()
        module = self._twin("aqltelemetry.stalls.watchdog")
        late_ns = min(LATE_NS, self._threshold_ns)
        watchdog = module.Watchdog(loop, TICK_NS, late_ns, PERIOD_NS, self._threshold_ns)
        self._append, self._loop, self.watchdog = append, loop, watchdog
        loop.add_reader(watchdog.ping_fd, watchdog.answer)
        gc.callbacks.append(watchdog.collecting)
        watchdog.start()
        probe = Probe(watchdog, loop, self._conclude)
        queue = queue_of(loop)

        def run() -> None:
            _learn(watchdog, loop, queue)
            probe.run()

        start_thread(run, "aqltelemetry-stalls")

    def detach(self) -> None:
        """Stop to watch."""
        self._append = None
        watchdog, self.watchdog = self.watchdog, None
        loop, self._loop = self._loop, None
        is_child = os.getpid() != self._pid
        if is_child and self._details is not None:
            self._details.abandon_in_child()
        if watchdog is None:
            return
        if watchdog.collecting in gc.callbacks:
            gc.callbacks.remove(watchdog.collecting)
        if is_child:
            # The event loop is the parent's, and shares its selector with it.
            watchdog.abandon_in_child()
            return
        if loop is not None and not loop.is_closed():
            loop.remove_reader(watchdog.ping_fd)
        watchdog.stop()

    def _conclude(self, evidence: Evidence) -> None:
        append = self._append
        if append is None:
            return
        try:
            if self.on_evidence is not None:
                self.on_evidence(evidence)
            episode = conclude(evidence, read_anchor().offset_ns, _thread_names())
            append(episode.verdict.cause, episode.length_s)
            self._keep(episode)
        except Exception as exc:  # noqa: BLE001 - the next stall may be recorded
            log.error("a stall of the event loop could not be recorded: %r", exc)

    def _keep(self, episode: Episode) -> None:
        if self._details is not None:
            self._details.add(episode.detail(os.getpid(), ""))


def _learn(watchdog: Any, loop: asyncio.AbstractEventLoop, queue: Sequence[object] | None) -> None:
    """Find the descriptor that the loop waits on, once the loop has registered its reader."""
    for _ in range(_TRIES):
        if loop.is_closed() or watchdog.is_stopping:
            return
        selector = selector_of(watchdog.ping_fd)
        if selector >= 0:
            watchdog.know_loop(selector, queue)
            watchdog.know_limit(open_throttling_file())
            return
        pause(_TRY_S)


def _thread_names() -> dict[int, str]:
    return {
        each.native_id: each.name for each in threading.enumerate() if each.native_id is not None
    }
