"""Starts and stops the recordings of hosts, and logs failures instead of raising them.

An application is served whether it can be recorded or not, so no host raises because a recording
can't be started or stopped: it logs the reason in one line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from aqltelemetry.errors import AlreadyRunningError, TelemetryError
from aqltelemetry.hosts.request_record import InFlight
from aqltelemetry.recording.in_flight import note_routes
from aqltelemetry.runtime.monitor import Monitor
from aqltelemetry.settings import Options, settings
from aqltelemetry.stalls.sampler import watch_running_loop
from aqltelemetry.system.logs import log


@contextmanager
def log_failed_start(subject: str = "application") -> Iterator[None]:
    """Log in one line that `subject` runs unrecorded, and why, instead of raising an Exception.

    Other exceptions pass: a cancellation of the application, a KeyboardInterrupt.
    """
    try:
        yield
    except AlreadyRunningError as exc:
        log.info("requests are recorded by the running monitor, into %s", exc.directory)
    except Exception as exc:  # noqa: BLE001 - the application is served, whatever fails here
        log.error("the %s runs unrecorded: %s", subject, _described(exc))


@contextmanager
def log_failed_stop() -> Iterator[None]:
    """Log in one line why a recording could not be stopped, instead of raising an Exception."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - as above
        log.error("the recording could not be stopped: %s", _described(exc))


def _described(exc: Exception) -> str:
    text = " ".join(str(exc).split())
    return text if text and isinstance(exc, TelemetryError | OSError) else repr(exc)


class HostRecording:
    """The recording of one application, which samples the number of its requests in flight.

    It runs either on the application's event loop (`start`, `stop`) or on a thread of its own
    (`start_on_thread`, `stop_on_thread`). Failures of these are logged, not raised.

    Raises OptionError for a wrong directory or option.
    """

    def __init__(
        self, monitoring_dir: str | os.PathLike[str] | None = None, options: Options | None = None
    ) -> None:
        given: Options = options or {}
        # Wrong environment variables are logged now rather than at the first request.
        chosen = settings(monitoring_dir, given)
        self.with_cpu_time = chosen.with_cpu_time
        """Whether the CPU time of requests is recorded."""
        self.in_flight = InFlight()
        self.routes: Callable[[], Iterable[str]] = tuple
        """Returns the templates of the application's routes, known once it serves."""
        self._directory = monitoring_dir
        self._options: Options = {
            **given,
            "samplers": (*given.get("samplers", ()), self.in_flight),
        }
        self._monitor = Monitor(monitoring_dir, **self._options)

    @property
    def is_running(self) -> bool:
        """Whether it runs on the application's event loop."""
        return self._monitor.is_running

    async def start(self) -> None:
        """Start on the running event loop of asyncio."""
        with log_failed_start():
            self._note_routes()
            await self._monitor.start()
        # The recording may run on another event loop.
        watch_running_loop()

    async def stop(self) -> None:
        """Stop if `start` has started it."""
        if self._monitor.is_running:
            with log_failed_stop():
                await self._monitor.stop()

    def start_on_thread(self) -> bool:
        """Start on a thread that has its own event loop; return whether it was started."""
        from aqltelemetry.runtime import background  # noqa: PLC0415 - only some hosts need it

        is_started = False
        self._note_routes()
        with log_failed_start():
            background.start(self._directory, **self._options)
            is_started = True
        return is_started  # noqa: RET504 - what is raised is logged

    def _note_routes(self) -> None:
        try:
            note_routes(self.routes())
        except Exception as exc:  # noqa: BLE001 - an unknown version of a framework
            log.debug("the routes of an application can't be listed: %r", exc)

    def stop_on_thread(self) -> None:
        """Stop what `start_on_thread` has started."""
        from aqltelemetry.runtime import background  # noqa: PLC0415 - as above

        with log_failed_stop():
            background.stop()
