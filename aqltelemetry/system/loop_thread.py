"""An event loop on a thread of its own, and how other threads wait for it."""

from __future__ import annotations

import asyncio
from _queue import SimpleQueue
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from aqltelemetry.errors import StateError
from aqltelemetry.system.descriptors import reserve_standard_descriptors
from aqltelemetry.system.threads import start_thread, take, take_within
from aqltelemetry.system.unpatched import are_greenlets

_T = TypeVar("_T")
_INTERRUPTED_S = 10.0
_STARTED_S = 30.0


class _Call(Generic[_T]):
    """A coroutine that runs on the loop, and the queue that receives its task when it ends."""

    def __init__(self, work: Coroutine[Any, Any, _T]) -> None:
        self.work = work
        self.has_started = False
        self.ended: SimpleQueue[asyncio.Task[_T] | BaseException] = SimpleQueue()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the coroutine; called on the loop's thread."""
        self.has_started = True
        loop.create_task(self.work).add_done_callback(self.ended.put)


class LoopThread:
    """A daemon thread that runs an event loop until it is ended.

    If the loop ends, the threads that wait for it get the exception that ended it. An
    exception that a signal handler raises in a waiting thread, such as KeyboardInterrupt, is
    raised after the loop has finished the call, so that nothing is left half done.
    """

    def __init__(self) -> None:
        """Start the thread; raises StateError or OSError if no loop can be made."""
        self._loops: SimpleQueue[asyncio.AbstractEventLoop | BaseException] = SimpleQueue()
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._calls: set[_Call[Any]] = set()
        self._failure: BaseException | None = None
        self._is_given_up = False
        try:
            start_thread(self._run, "aqltelemetry-loop")
        except RuntimeError as exc:
            raise StateError(f"no thread can be started: {exc}") from exc
        self._loop = self._made()

    def _made(self) -> asyncio.AbstractEventLoop:
        try:
            made = take(self._loops, _STARTED_S)
        except BaseException:
            self._give_up(take_within(self._loops, _INTERRUPTED_S))
            raise
        if isinstance(made, StateError | OSError):
            raise made
        if isinstance(made, BaseException):
            raise StateError(f"no event loop can be made: {made!r}") from made
        if made is None:
            self._give_up(take(self._loops, 0))
            raise StateError(f"no event loop was made within {_STARTED_S:g} seconds")
        return made

    def _give_up(self, late: asyncio.AbstractEventLoop | BaseException | None) -> None:
        """End the thread as soon as its event loop is made."""
        self._is_given_up = True
        if isinstance(late, asyncio.AbstractEventLoop):
            with suppress(RuntimeError):  # it has ended by itself
                late.call_soon_threadsafe(late.stop)

    def call(self, work: Coroutine[Any, Any, _T], *, is_left: bool = False) -> _T:
        """Run a coroutine on the loop and wait for it; return its result or raise its exception.

        With `is_left`, an exception of a signal handler is raised without waiting for it.
        Raises StateError if the loop has ended by itself.
        """
        call = _Call(work)
        self._calls.add(call)
        try:
            self._begin(call)
            ended = take(call.ended)
        except BaseException:
            if not is_left:
                take_within(call.ended, _INTERRUPTED_S)
            raise
        finally:
            self._calls.discard(call)
        if isinstance(ended, BaseException):
            if not call.has_started:
                work.close()  # else Python would warn of it
            raise StateError(f"the event loop of the recording has ended: {ended!r}") from ended
        return ended.result()

    def end(self) -> None:
        """End the loop and wait for that."""
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._loop.stop)
        take(self._ended)

    def _begin(self, call: _Call[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(call.begin, self._loop)
        except RuntimeError as exc:  # it is closed
            call.ended.put(self._failure or exc)

    def _run(self) -> None:
        try:
            loop = new_event_loop()
        except BaseException as exc:  # noqa: BLE001 - for the thread that waits
            self._loops.put(exc)
            return
        self._loops.put(loop)
        try:
            if not self._is_given_up:
                loop.run_forever()
        except BaseException as exc:  # noqa: BLE001 - for the threads that wait
            self._failure = exc
        finally:
            loop.close()
            # Closed first: later calls are refused, and all earlier ones are in the set.
            for call in tuple(self._calls):
                call.ended.put(self._failure or RuntimeError("stopped"))
            self._ended.put(None)


def import_ahead() -> None:
    """Import the modules of a loop that can't be imported after the end of the main thread.

    They are not imported with this module, since they register hooks for forks and the exit.
    """
    # If it fails here, the start of the recording fails later and reports it.
    with suppress(ImportError):
        import concurrent.futures.thread  # noqa: F401, PLC0415 - as above


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop: uvloop's if it is installed, else asyncio's."""
    reserve_standard_descriptors()
    try:
        from uvloop import new_event_loop as new_uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        if are_greenlets():
            # asyncio's loop uses sockets and selectors, which gevent and eventlet replace.
            raise StateError("with gevent or eventlet, recording needs uvloop") from None
        return asyncio.new_event_loop()
    return new_uvloop()
