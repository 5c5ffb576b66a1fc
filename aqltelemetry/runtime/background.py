"""The same recording for programs without an event loop: a thread of ours has one.

    from aqltelemetry import sync

    sync.start("_monitoring")
    ...
    sync.stop()

`time_block`, `time_it` and `record` are the ones of the asynchronous API: they
record on any thread, whoever started the monitor.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar, Unpack

from aqltelemetry.errors import NotRunningError, TelemetryError
from aqltelemetry.recording.recorder import append_duration, is_on, record, time_block
from aqltelemetry.recording.stats import Stats
from aqltelemetry.recording.timed_functions import time_it
from aqltelemetry.runtime.monitor import Monitor
from aqltelemetry.runtime.profiler import Profiler
from aqltelemetry.settings import TEXT_OPTIONS, Options, Settings, settings
from aqltelemetry.system import process_end
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.logs import log
from aqltelemetry.system.loop_thread import LoopThread
from aqltelemetry.system.threads import Lock

__all__ = (
    "flush",
    "record",
    "start",
    "start_duration_sample",
    "stats",
    "stop",
    "stop_duration_sample",
    "time_block",
    "time_it",
)

NOT_RECORDING = 0
"""What `start_duration_sample` returns while recording is off."""


class _Recording:
    """A monitor on a loop of its own thread, and a profiler on the caller's."""

    def __init__(self, chosen: Settings, options: Options, *, auto_started: bool = False) -> None:
        self._profiler = Profiler(chosen.directory) if chosen.with_profiler else None
        # The thread to profile is the caller's, not that of our loop.
        unprofiled: Options = {**options, "with_profiler": False}
        self.monitor = Monitor(chosen.directory, **unprofiled)
        self.monitor.on_own_thread = True
        self.monitor.auto_started = auto_started
        with ExitStack() as undo:
            self._thread = LoopThread()
            undo.callback(self._thread.end)
            # Before it is open: what a signal handler raises meanwhile comes after that.
            undo.callback(self._stop_monitor)
            self._thread.call(self.monitor.open())
            if self._profiler is not None:
                self._profiler.start()
            self._thread.call(self.monitor.take_over())
            undo.pop_all()

    def _stop_monitor(self) -> None:
        if self.monitor.is_running:
            self._thread.call(self.monitor.stop())

    def flush(self) -> None:
        self._thread.call(self.monitor.flush(), is_left=True)

    def sample(self) -> None:
        self._thread.call(self.monitor.sample())

    def end(self) -> None:
        self._thread.end()

    def stop(self) -> Stats:
        if self._profiler is not None:
            try:
                self._profiler.stop()
            except OSError as exc:
                log.error("the profile can't be written: %s", exc)
        try:
            return self._thread.call(self.monitor.stop())
        finally:
            self.end()


class _State:
    """What runs in this process; empty in a forked child."""

    lock = Lock()
    running: _Recording | None = None
    hooked = False
    ends_with_worker = False
    forgets: ClassVar[set[Callable[[], None]]] = set()

    @classmethod
    def hook(cls) -> None:
        if not cls.ends_with_worker:
            cls.ends_with_worker = True
            process_end.call_at_end_of_worker(stop_quietly)
        # For good, as such hooks can't be taken back; so not before the first start.
        if not cls.hooked:
            os.register_at_fork(after_in_child=cls.forked)
            atexit.register(_stop_at_exit)
            cls.hooked = True

    @classmethod
    def forked(cls) -> None:
        cls.lock, cls.running, cls.ends_with_worker = Lock(), None, False
        for forget in cls.forgets:
            forget()


def when_forked(forget: Callable[[], None]) -> None:
    """Have something called in each child forked from now on; once, however often asked."""
    with _State.lock:
        _State.hook()
        _State.forgets.add(forget)


def start(monitoring_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]) -> None:
    """Begin to record; return when recording is on.

    The options are those of `Monitor`, but `with_event_loop` is off by default:
    the loop here is our own. A process that ends without `stop` publishes what
    it recorded at its exit, if it has one.

    Raises OptionError, MonitoringDirectoryError, ProfilerError, or
    AlreadyRunningError while a monitor runs in this process; StateError where
    gevent or eventlet has put greenlets in the place of threads and uvloop is not there,
    or another library has replaced threads.
    """
    _start(monitoring_dir, options)


def start_automatically(**options: Unpack[Options]) -> None:
    """Begin to record as `start` does, until the program starts a recording of its own."""
    _start(None, options, auto_started=True)


def start_in_child(chosen: Settings) -> None:
    """Begin to record this forked child as its parent did, and take a first sample.

    Until the program starts a recording of its own.
    """
    options = {name: getattr(chosen, name) for name in TEXT_OPTIONS}
    del options["directory"]
    unprofiled: Options = {**options, "with_profiler": False, "with_event_loop": False}  # type: ignore[typeddict-item]
    _start(chosen.directory, unprofiled, auto_started=True)
    with _State.lock:
        if _State.running is not None:
            _State.running.sample()


def _start(
    monitoring_dir: str | os.PathLike[str] | None, options: Options, *, auto_started: bool = False
) -> None:
    wanted: Options = {"with_event_loop": False, **options}
    with _State.lock:
        recording = _Recording(settings(monitoring_dir, wanted), wanted, auto_started=auto_started)
        _State.hook()
        left, _State.running = _State.running, recording
    if left is not None:  # one that made way for this
        left.end()


def stop() -> Stats:
    """End the recording, publish it, and return the final account.

    Takes `stop_timeout_s` at most. Raises NotRunningError if `start` was not
    called in this process.
    """
    with _State.lock:
        recording, _State.running = _running(), None
        return recording.stop()


def _stop_auto_started() -> None:
    with _State.lock:
        recording, _State.running = _State.running, None
        if recording is not None:
            recording.stop()


def flush() -> None:
    """Have everything recorded until now published; raises NotRunningError."""
    with _State.lock:
        _running().flush()


def stats() -> Stats:
    """Return the account of the recording at this moment; raises NotRunningError."""
    return _running().monitor.stats()


def start_duration_sample() -> int:
    """Begin to time something; return what `stop_duration_sample` needs."""
    return monotonic_ns() if is_on() else NOT_RECORDING


def stop_duration_sample(label: str, sample_id: int) -> None:
    """Record the duration of what `start_duration_sample` began, on any thread."""
    end_ns = monotonic_ns()
    if sample_id != NOT_RECORDING:
        append_duration(label, end_ns, end_ns - sample_id)


def _running() -> _Recording:
    # What the program did not ask for is not its to stop.
    if _State.running is None or _State.running.monitor.auto_started:
        raise NotRunningError
    return _State.running


def _stop_at_exit() -> None:
    if not process_end.is_left_to_finalizers(stop_quietly):
        stop_quietly()


def stop_quietly() -> None:
    """Stop whatever records, at the end of the process."""
    running = _State.running
    if running is not None and running.monitor.is_running:
        try:
            (_stop_auto_started if running.monitor.auto_started else stop)()
        except TelemetryError as exc:
            log.error("the recording could not be stopped at exit: %s", exc)
        finally:
            process_end.keep_exit_status()
