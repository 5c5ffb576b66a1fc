"""Starts a recording of its own in a forked child that records, or is a worker.

Until it has started, and where it can't be started, the child's observations go into
segments that others publish (`forked`). A worker of `multiprocessing` or billiard starts its
recording at once, any other child once it has lived for a while after its first observation:
one that is forked for a moment's work is not made to start threads.
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
        self._asked: SimpleQueue[None] = SimpleQueue()
        self._started: SimpleQueue[None] = SimpleQueue()

    def after_a_while(self) -> None:
        """Start unless the child ends soon; called in the middle of its first record."""
        self._begin(self._chosen.interval_s)

    def now(self) -> None:
        """Start at once, in a worker, and stop at its end."""
        process_end.call_at_end_of_worker(self._end)
        if not self._begin(0):
            self._asked.put(None)

    def _begin(self, delay_s: float) -> bool:
        try:
            self._turn.pop()
        except IndexError:
            return False
        # No `threading`, whose locks the code that records may hold.
        native("_thread", "start_new_thread")(self._run, (delay_s,))
        return True

    def _run(self, delay_s: float) -> None:
        from aqltelemetry.runtime import background  # noqa: PLC0415 - a process may never fork

        with suppress(Empty):
            self._asked.get(timeout=delay_s)
        try:
            background.start_in_child(self._chosen)
        except Exception as exc:  # noqa: BLE001 - what was recorded is published by others then
            log.debug("the child has no recording of its own: %r", exc)
        finally:
            self._started.put(None)

    def _end(self) -> None:
        from aqltelemetry.runtime import background  # noqa: PLC0415 - as above

        try:
            self._started.get(timeout=_START_S)
        except Empty:
            return
        self._started.put(None)
        background.stop_quietly()


def prepare(chosen: Settings) -> Callable[[], None]:
    """Prepare a child's recording, in the child; return what its first record calls."""
    if are_greenlets() or chosen.sinks:
        # A user's sinks are the parent's alone, and so are the observations for them.
        return _nothing
    start = _Start(chosen)
    process_end.call_in_worker(start.now)
    return start.after_a_while


def _nothing() -> None:
    pass


Active.prepare_child = prepare
