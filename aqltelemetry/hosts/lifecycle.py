"""Starts and stops recordings for the hosts, and lets no failure of ours into the application."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aqltelemetry.errors import AlreadyRunningError, OptionError, TelemetryError
from aqltelemetry.runtime.monitor import Monitor
from aqltelemetry.settings import Options
from aqltelemetry.system.async_backend import asyncio_task, trio_task
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import Lock, start_thread


@contextmanager
def starting(subject: str = "application") -> Iterator[None]:
    """Log why a recording could not be started, in one line, instead of raising it.

    What is no `Exception` passes: a cancellation of the application, a KeyboardInterrupt.
    `subject` names what is served unrecorded then.
    """
    try:
        yield
    except AlreadyRunningError as exc:
        log.info("requests are recorded by the running monitor, into %s", exc.directory)
    except Exception as exc:  # noqa: BLE001 - whatever fails in us, the application is served
        unrecorded(exc, subject)


@contextmanager
def stopping() -> Iterator[None]:
    """Log why a recording could not be stopped, in one line, instead of raising it."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - as above
        log.error("the recording could not be stopped: %s", _described(exc))


def unrecorded(exc: Exception, subject: str = "application") -> None:
    """Log in one line that something is served unrecorded, and why."""
    log.error("the %s runs unrecorded: %s", subject, _described(exc))


async def start(monitor: Monitor) -> None:
    """Start a monitor on the running event loop of asyncio; log what prevents that."""
    with starting():
        await monitor.start()


async def stop(monitor: Monitor) -> None:
    """Stop a monitor if it is running; log what prevents that."""
    if monitor.is_running:
        with stopping():
            await monitor.stop()


class Lifecycle:
    """The recording of an application on any asynchronous backend.

    In a task of asyncio's the monitor runs on that event loop. On trio, and on backends
    that are not known, a thread of its own runs it.

    `is_ready` is true once the recording was started, or could not be; until it is stopped,
    or until its event loop ends without that, as one does that ran a single request.
    """

    def __init__(
        self,
        monitor: Monitor,
        monitoring_dir: str | os.PathLike[str] | None,
        options: Options,
        refused: OptionError | None = None,
    ) -> None:
        self.is_ready = False
        self.refused = refused
        """Why there can be no recording, where that was not raised."""
        self._monitor = monitor
        self._directory = monitoring_dir
        self._options = options
        self._starting: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._lock = Lock()
        self._tried_apart = False
        self._is_apart = False

    async def get_ready(self) -> None:
        """Start the recording, if that was not begun, and wait until it is started."""
        with starting():
            if self.refused is not None:
                raise self.refused
            if asyncio_task() is not None:
                await self._start_on_loop()
            else:
                await _in_thread(self._start_apart)
        self.is_ready = True

    async def stop(self) -> None:
        """Stop the recording, if this one started it."""
        begun, self._starting = self._starting, None
        watch, self._watch = self._watch, None
        self.is_ready = False
        with stopping():
            await _wait_here(begun)
            if watch is not None and _is_here(watch):
                watch.cancel()
            await stop(self._monitor)
            if self._tried_apart:
                await _in_thread(self._stop_apart)

    async def _start_on_loop(self) -> None:
        loop = asyncio.get_running_loop()
        begun = self._starting
        if begun is None or begun.cancelled() or begun.get_loop().is_closed():
            begun = self._starting = loop.create_task(start(self._monitor))
        await _wait_here(begun)
        if self._monitor.is_running and (self._watch is None or self._watch.done()):
            self._watch = loop.create_task(self._watch_loop(), name="aqltelemetry")

    async def _watch_loop(self) -> None:
        """Wait until the event loop ends, which cancels its tasks: the next one starts anew."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self._watch is asyncio.current_task():
                self.is_ready = False

    def _start_apart(self) -> None:
        from aqltelemetry.runtime import background  # noqa: PLC0415 - which few hosts need

        with self._lock:
            if self._tried_apart:
                return
            self._tried_apart = True
            with starting():
                background.start(self._directory, **self._options)
                self._is_apart = True

    def _stop_apart(self) -> None:
        from aqltelemetry.runtime import background  # noqa: PLC0415 - as above

        with self._lock:
            self._tried_apart, is_apart, self._is_apart = False, self._is_apart, False
            if is_apart:
                with stopping():
                    background.stop()


async def _wait_here(begun: asyncio.Task[None] | None) -> None:
    """Wait for a start; one on another event loop can't be waited for on this one."""
    if begun is not None and not begun.done() and _is_here(begun):
        # Whatever happens to the start, only a cancellation of the caller is the caller's.
        await asyncio.wait((begun,))


def _is_here(task: asyncio.Task[None]) -> bool:
    """Return whether a task runs on the event loop of the running task."""
    running = asyncio_task()
    return running is not None and running.get_loop() is task.get_loop()


def is_in_asgi_call() -> bool:
    """Return whether an ASGI application is being called, which makes its middleware only then."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if {"scope", "receive", "send"} <= {*code.co_varnames[: code.co_argcount]}:
            return True
        frame = frame.f_back
    return False


async def _in_thread(work: Callable[[], None]) -> None:
    """Have something done on another thread, and wait for it where that is possible."""
    if trio_task() is not None:
        import trio  # noqa: PLC0415 - it runs, so it is imported

        await trio.to_thread.run_sync(work)
    else:
        start_thread(work, "aqltelemetry-host")


def _described(exc: Exception) -> str:
    text = " ".join(str(exc).split())
    return text if text and isinstance(exc, TelemetryError | OSError) else repr(exc)
