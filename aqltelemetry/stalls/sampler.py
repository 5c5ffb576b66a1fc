"""Records the stalls of event loops, and of the requests that threads handle."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

from aqltelemetry.observation import STALL, Measurement
from aqltelemetry.protocols import Append
from aqltelemetry.recording.recorder import follow_blocks
from aqltelemetry.stalls.episode import Episode, conclude
from aqltelemetry.stalls.evidence import Evidence
from aqltelemetry.stalls.probe import thread_names
from aqltelemetry.stalls.watch import Watch, watch_loop, watch_requests
from aqltelemetry.system.clock import NS_PER_S, read_anchor
from aqltelemetry.system.extensions import choose
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import Lock, is_own
from aqltelemetry.system.unpatched import are_greenlets

_MOST_WATCHES = 8


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
    """Records what blocks event loops and, where they are watched, long requests on threads.

    One observation is one stall: its value is the length in seconds, its label the cause, one
    of `causes.CAUSES`. `details` gets everything else that was found. An event loop that only
    the recording uses is not watched, and nothing is where threads are greenlets.

    Args:
        threshold_s: The shortest time in which an event loop does not answer that is recorded.
        details: Keeps everything else of each stall.
        twin: Returns the module of the watchdog by the name of the one in Python.
        request_threshold_s: The shortest request on a thread that is recorded; 0 for none.
    """

    prefix = STALL
    interval_s: float | None = None

    def __init__(
        self,
        threshold_s: float,
        details: Keeper | None = None,
        twin: Callable[[str], ModuleType] = choose,
        request_threshold_s: float = 0.0,
    ) -> None:
        self._threshold_ns = round(threshold_s * NS_PER_S)
        self._request_threshold_ns = round(request_threshold_s * NS_PER_S)
        self._details = details
        self._twin = twin
        self._append: Append | None = None
        self._pid = os.getpid()
        self._lock = Lock()
        self.watches: list[Watch] = []
        self.on_evidence: Callable[[Evidence], None] | None = None
        """Called with the evidence of each stall, on the probe's thread; for measurements."""

    async def sample(self) -> Sequence[Measurement]:
        """Return nothing, and let the details be published."""
        if self._details is not None:
            await self._details.tend()
        return ()

    def attach(self, append: Append) -> None:
        """Start to watch the running event loop, unless it is the recording's own."""
        if are_greenlets():
            log.info("stalls are not recorded: the threads are greenlets")
            return
        self._append = append
        follow_blocks(True)
        _Attached.sampler = self
        self.add_running_loop()

    def add_running_loop(self) -> None:
        """Watch the running event loop as well, unless it is watched, or the recording's own."""
        tid = threading.get_native_id()
        if is_own(threading.get_ident()):
            return
        with self._lock:
            if self._append is None or len(self.watches) >= _MOST_WATCHES:
                return
            if any(each.tid == tid and not _is_closed(each) for each in self.watches):
                return
            watch = watch_loop(self._module(), self._threshold_ns, self._conclude)
            self.watches.append(watch)
            self._pass_loops()

    def add_requests(self) -> None:
        """Watch the requests that threads handle as well, unless they are watched."""
        with self._lock:
            if self._append is None or not self._request_threshold_ns:
                return
            if all(each.tid for each in self.watches):
                watch = watch_requests(
                    self._module(), self._request_threshold_ns, self._tids(), self._conclude
                )
                self.watches += [] if watch is None else [watch]

    def detach(self) -> None:
        """Stop to watch."""
        self._append = None
        if _Attached.sampler is self:
            _Attached.sampler = None
            follow_blocks(False)
        is_child = os.getpid() != self._pid
        if is_child:
            self._lock = Lock()  # a thread of the parent may have held it
            if self._details is not None:
                self._details.abandon_in_child()
        with self._lock:
            watches, self.watches = self.watches, []
        for each in watches:
            each.stop()

    def _module(self) -> ModuleType:
        return self._twin("aqltelemetry.stalls.watchdog")

    def _tids(self) -> list[int]:
        return [each.tid for each in self.watches if each.tid]

    def _pass_loops(self) -> None:
        for each in self.watches:
            if not each.tid:
                each.watchdog.know_loops(self._tids())

    def _conclude(self, evidence: Evidence) -> None:
        append = self._append
        if append is None:
            return
        try:
            if self.on_evidence is not None:
                self.on_evidence(evidence)
            names = {**evidence.thread_names, **thread_names()}
            episode = conclude(evidence, read_anchor().offset_ns, names)
            append(episode.verdict.cause, episode.length_s)
            self._keep(episode)
        except Exception as exc:  # noqa: BLE001 - the next stall may be recorded
            log.error("a stall could not be recorded: %r", exc)

    def _keep(self, episode: Episode) -> None:
        if self._details is not None:
            self._details.add(episode.detail(os.getpid(), ""))


class _Attached:
    """The sampler of this process's recording; None if there is none."""

    sampler: StallSampler | None = None


def attached() -> StallSampler | None:
    """Return the sampler of this process's recording; None if stalls are not recorded."""
    return _Attached.sampler


def watch_running_loop() -> None:
    """Watch the running event loop if stalls are recorded; a failure is logged."""
    _try(StallSampler.add_running_loop)


def watch_threads() -> None:
    """Watch the requests that threads handle if stalls are recorded; a failure is logged."""
    _try(StallSampler.add_requests)


def _try(work: Callable[[StallSampler], None]) -> None:
    sampler = _Attached.sampler
    if sampler is not None:
        try:
            work(sampler)
        except Exception as exc:  # noqa: BLE001 - requests are served, whatever fails here
            log.error("stalls can't be watched here: %r", exc)


def _is_closed(watch: Watch) -> bool:
    return watch.loop is not None and watch.loop.is_closed()
