"""Starts and stops the recording of an ASGI application, on asyncio and on other backends."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

from aqltelemetry.errors import OptionError
from aqltelemetry.hosts.lifecycle import HostRecording, log_failed_start, log_failed_stop
from aqltelemetry.system.async_backend import asyncio_task, trio_task
from aqltelemetry.system.threads import Lock, start_thread


class Lifecycle:
    """Starts a recording with an application's lifespan, or with its first request.

    In a task of asyncio the recording runs on that event loop. On trio, and on unknown backends,
    it runs on its own thread.

    `is_ready` is true once a start has succeeded or failed. It becomes false when the recording
    is stopped, or when its event loop ends without a stop, as one does that runs a single request.
    """

    def __init__(self, recording: HostRecording, refused: OptionError | None = None) -> None:
        self.is_ready = False
        self.refused = refused
        """Why nothing can be recorded, where this could not be raised at once."""
        self.recording = recording
        self._starting: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._lock = Lock()
        self._tried_thread = False
        self._is_on_thread = False

    async def get_ready(self) -> None:
        """Start the recording unless it is starting already, and wait for the start."""
        with log_failed_start():
            if self.refused is not None:
                raise self.refused
            if asyncio_task() is not None:
                await self._start_on_loop()
            else:
                await _run_in_thread(self._start_on_thread)
        self.is_ready = True

    async def stop(self) -> None:
        """Stop the recording if this lifecycle started it."""
        starting, self._starting = self._starting, None
        watch, self._watch = self._watch, None
        self.is_ready = False
        with log_failed_stop():
            await _wait_for(starting)
            if watch is not None and _is_on_this_loop(watch):
                watch.cancel()
            await self.recording.stop()
            if self._tried_thread:
                await _run_in_thread(self._stop_on_thread)

    async def _start_on_loop(self) -> None:
        loop = asyncio.get_running_loop()
        starting = self._starting
        if starting is None or starting.cancelled() or starting.get_loop().is_closed():
            starting = self._starting = loop.create_task(self.recording.start())
        await _wait_for(starting)
        if self.recording.is_running and (self._watch is None or self._watch.done()):
            self._watch = loop.create_task(self._watch_loop(), name="aqltelemetry")

    async def _watch_loop(self) -> None:
        """Wait for the end of the event loop, which cancels its tasks; then start again."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self._watch is asyncio.current_task():
                self.is_ready = False

    def _start_on_thread(self) -> None:
        with self._lock:
            if not self._tried_thread:
                self._tried_thread = True
                self._is_on_thread = self.recording.start_on_thread()

    def _stop_on_thread(self) -> None:
        with self._lock:
            self._tried_thread = False
            is_on_thread, self._is_on_thread = self._is_on_thread, False
            if is_on_thread:
                self.recording.stop_on_thread()


async def _wait_for(starting: asyncio.Task[None] | None) -> None:
    """Wait for a start on this event loop; one on another loop can't be awaited here."""
    if starting is not None and not starting.done() and _is_on_this_loop(starting):
        # A cancellation of the start is none of the caller: `wait` does not raise it.
        await asyncio.wait((starting,))


def _is_on_this_loop(task: asyncio.Task[None]) -> bool:
    running = asyncio_task()
    return running is not None and running.get_loop() is task.get_loop()


async def _run_in_thread(work: Callable[[], None]) -> None:
    """Run `work` on another thread, and wait for its end where the backend is known."""
    if trio_task() is not None:
        import trio  # noqa: PLC0415 - it runs, so it is imported

        await trio.to_thread.run_sync(work)
    else:
        start_thread(work, "aqltelemetry-host")


def is_in_asgi_call() -> bool:
    """Return whether a caller on the stack is an ASGI application that is being called."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if {"scope", "receive", "send"} <= {*code.co_varnames[: code.co_argcount]}:
            return True
        frame = frame.f_back
    return False
