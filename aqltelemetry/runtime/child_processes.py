"""Starts a recording in a forked child that records observations, or is a worker.

Until it is on, and if it can't be started, the child's observations go into segments that
other processes publish (`recording.forked_child`). A worker of `multiprocessing` or billiard
starts its recording at once. Any other child starts one after it has lived for a while after
its first observation, so that a child for a moment's work starts no threads.
"""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from collections.abc import Callable
from contextlib import suppress

from aqltelemetry.runtime.active import Active
from aqltelemetry.settings import Settings
from aqltelemetry.system import process_end
from aqltelemetry.system.logs import log
from aqltelemetry.system.unpatched import are_greenlets, native

_START_S = 2.0


class _Start:
    """Starts the recording of a child, once, on a thread of its own."""

    def __init__(self, chosen: Settings) -> None:
        self._chosen = chosen
        # Popping is atomic, so one caller starts: a collector callback may be another.
        self._turn = [True]
        self._at_once: SimpleQueue[None] = SimpleQueue()
        self._ended: SimpleQueue[None] = SimpleQueue()

    def after_a_while(self) -> None:
        """Start unless the child ends soon; called during its first record."""
        self._start_thread(self._chosen.interval_s)

    def now(self) -> None:
        """Start at once, in a worker, and stop at its end."""
        process_end.call_at_end_of_worker(self._stop)
        if not self._start_thread(0):
            self._at_once.put(None)

    def _start_thread(self, delay_s: float) -> bool:
        try:
            self._turn.pop()
        except IndexError:
            return False
        # Not by `threading`, because the code that records may hold its locks.
        native("_thread", "start_new_thread")(self._run, (delay_s,))
        return True

    def _run(self, delay_s: float) -> None:
        from aqltelemetry.runtime import background  # noqa: PLC0415 - a process may never fork

        with suppress(Empty):
            self._at_once.get(timeout=delay_s)
        try:
            background.start_in_child(self._chosen)
        except Exception as exc:  # noqa: BLE001 - other processes publish what was recorded then
            log.debug("the child has no recording of its own: %r", exc)
        finally:
            self._ended.put(None)

    def _stop(self) -> None:
        """Stop the recording at the end of a worker, once its start has ended."""
        from aqltelemetry.runtime import background  # noqa: PLC0415 - as above

        try:
            self._ended.get(timeout=_START_S)
        except Empty:
            return
        self._ended.put(None)  # this may be called twice
        background.stop_at_process_end()


def prepare(chosen: Settings) -> Callable[[], None]:
    """Prepare a child's recording, in the child; return the function for its first record."""
    if are_greenlets() or chosen.sinks:
        # User-defined sinks exist in the parent alone, which publishes the child's observations.
        return _nothing
    start = _Start(chosen)
    process_end.call_in_worker(start.now)
    return start.after_a_while


def _nothing() -> None:
    pass


Active.prepare_child = prepare
