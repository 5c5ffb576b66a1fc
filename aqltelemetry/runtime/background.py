"""Recordings for programs without an event loop: what `aqltelemetry.sync` exposes.

A recording runs its monitor on an event loop on a thread of its own.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar, Unpack

from aqltelemetry.errors import NotRunningError, TelemetryError
from aqltelemetry.recording.recorder import append_duration, is_on
from aqltelemetry.recording.stats import Stats
from aqltelemetry.runtime.monitor import Monitor
from aqltelemetry.runtime.profiler import Profiler
from aqltelemetry.settings import TEXT_OPTIONS, Options, Settings, settings
from aqltelemetry.system import process_end
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.logs import log
from aqltelemetry.system.loop_thread import LoopThread
from aqltelemetry.system.threads import Lock

NOT_RECORDING = 0
"""Returned by `start_duration_sample` while recording is off."""


class _Recording:
    """A monitor on the event loop of its own thread, and a profiler on the caller's thread."""

    def __init__(self, chosen: Settings, options: Options, *, auto_started: bool = False) -> None:
        self._profiler = Profiler(chosen.directory) if chosen.with_profiler else None
        # The thread to profile is the caller's, not that of the event loop.
        unprofiled: Options = {**options, "with_profiler": False}
        self.monitor = Monitor(chosen.directory, **unprofiled)
        self.monitor.on_own_thread = True
        self.monitor.auto_started = auto_started
        with ExitStack() as undo:
            self._thread = LoopThread()
            undo.callback(self.end_thread)
            # Registered before the monitor is open, since a signal handler may raise while
            # this waits; what it raises passes through once the monitor is open.
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

    def end_thread(self) -> None:
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
            self.end_thread()


class _State:
    """The recording of this process; a forked child has none."""

    lock = Lock()
    running: _Recording | None = None
    hooked = False
    ends_with_worker = False
    fork_callbacks: ClassVar[set[Callable[[], None]]] = set()

    @classmethod
    def hook(cls) -> None:
        """Register the hooks for the exit and for forks, once.

        They can't be unregistered, so this is not done before the first start.
        """
        if not cls.hooked:
            os.register_at_fork(after_in_child=cls.forked)
            atexit.register(_stop_at_exit)
            cls.hooked = True

    @classmethod
    def forked(cls) -> None:
        cls.lock, cls.running, cls.ends_with_worker = Lock(), None, False
        for call in cls.fork_callbacks:
            call()


def when_forked(call: Callable[[], None]) -> None:
    """Register a function to be called in each child that is forked from now on.

    A function that is registered again is called once.
    """
    with _State.lock:
        _State.hook()
        _State.fork_callbacks.add(call)


def start(monitoring_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]) -> None:
    """Start to record this process, and return when recording is on.

        sync.start("_monitoring", keep_bytes="2g")

    The recording runs on a thread of its own. A process that ends without `stop` publishes
    what it recorded at its exit; what a killed process recorded, the next start publishes.

    Parameters:
        monitoring_dir: The directory for the files; by default that of the environment
            variable AQLTELEMETRY_DIR, else `_monitoring`.
        **options: Any of those below; by default those of the environment, such as
            AQLTELEMETRY_KEEP_BYTES.

    Options. A time is a number of seconds, a `timedelta`, or a text such as "90s" or "7d"; a
    size is a number of bytes, or a text such as "2g":

    - `with_runtime`: Sample the garbage collector, the process and the event loop, and record
      stalls. Default: yes.
    - `with_event_loop`: Sample the event loop: its lag and its number of tasks. Default: no.
    - `with_stalls`: Record what blocks the event loop that the recording runs on. Default: yes.
    - `with_cpu_time`: Record how much of each request ran on a processor. Default: no.
    - `with_profiler`: Profile from start to stop: all threads and coroutines with yappi where it is
      installed, else the event loop's thread with cProfile. Default: no.
    - `with_fsync`: Force files to the disk before they appear, against a loss of power. Default:
      no.
    - `interval_s`: Seconds between two samples. Default: 1 s.
    - `stall_threshold_s`: Shortest time in seconds without an answer of the event loop that is
      recorded as a stall; 0 records none. Default: 0.05 s.
    - `stalled_request_s`: Shortest request on a thread that is a stall; 0: none. Default: 1 s.
    - `flush_interval_s`: Seconds after which observations leave the journal for a file that is not
      yet published. Default: 5 s.
    - `max_file_bytes`: Size that no CSV file exceeds. Default: 16 MiB.
    - `max_file_age_s`: Seconds after which a file is published even if it is not full. Default: 60
      s.
    - `keep_bytes`: Size of all published files above which the oldest are removed. Default:
      1 GiB.
    - `keep_s`: Age in seconds above which files are removed. Default: 7 days.
    - `journal_dir`: Directory of the journal; "auto" chooses one, "memory" uses no files. Default:
      auto.
    - `journal_bytes`: Size of a process's journal above which new observations are dropped and
      counted. Default: 64 MiB.
    - `stop_timeout_s`: Longest time in seconds that a stop takes. Default: 5 s.
    - `compact_after_s`: Age in seconds from which files are archived; 0 for none. Default: 0 s.
    - `compact_rollup_s`: Interval in seconds of the roll-ups that are made of archives; 0 for none.
      Default: 0 s.
    - `keep_rollups_s`: Age in seconds above which roll-ups are removed. Default: 400 days.
    - `ship_to`: Store that a process of its own ships published files to. Default: none.
    - `with_dump`: When a process next to the recorded ones copies the last minute of the recording
      aside. Default: none.
    - `keep_dump_bytes`: Size of all dumps above which the oldest are removed. Default: 256 MiB.
    - `samplers`: Samplers to run in addition to the built-in ones. Default: none.
    - `sinks`: Sinks to write to in addition to the CSV files. Default: none.

    Raises:
        OptionError: For a wrong directory or option.
        MonitoringDirectoryError: If the directory can't be created or written to.
        ProfilerError: If the process can't be profiled, as while another profiler is active.
        AlreadyRunningError: While a monitor runs in this process.
        FreeThreadingError: On a Python without the global interpreter lock.
        StateError: If no thread can be started; with gevent or eventlet, if uvloop is not
            installed; if another library has replaced the threads of Python.
    """
    _start(monitoring_dir, options)
    if not _State.ends_with_worker:
        _State.ends_with_worker = True
        process_end.call_at_end_of_worker(stop_at_process_end)


def start_automatically(**options: Unpack[Options]) -> None:
    """Start to record as `start` does, until the program starts a recording itself."""
    _start(None, options, auto_started=True)
    process_end.call_at_end_of_worker(stop_at_process_end)


def start_in_child(chosen: Settings) -> None:
    """Start to record this forked child with its parent's settings, and take a first sample.

    The recording ends when the program starts one itself. The caller registers
    `stop_at_process_end` for the end of a worker.
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
        chosen = settings(monitoring_dir, wanted)
        recording = _Recording(chosen, wanted, auto_started=auto_started)
        _State.hook()
        replaced, _State.running = _State.running, recording
    if chosen.with_dump:
        from aqltelemetry.runtime.dump_process import handle_signal  # noqa: PLC0415 - most need none

        handle_signal(chosen)
    if replaced is not None:
        replaced.end_thread()


def stop() -> Stats:
    """Stop the recording, and publish it.

    It takes `stop_timeout_s` at most; what is not published by then stays in the journal for
    the next start.

    Returns:
        The final statistics.

    Raises:
        NotRunningError: If `start` was not called in this process.
    """
    with _State.lock:
        recording, _State.running = _running(), None
        return recording.stop()


def flush() -> None:
    """Wait until all observations so far are published.

    Raises:
        NotRunningError: If `start` was not called in this process.
        DeliveryError: If a sink failed; the observations stay in the journal.
    """
    with _State.lock:
        _running().flush()


def stats() -> Stats:
    """Return the statistics of the recording at this moment.

    Raises:
        NotRunningError: If `start` was not called in this process.
    """
    return _running().monitor.stats()


def start_duration_sample() -> int:
    """Start to time something that no `with` block can enclose.

        sample_id = sync.start_duration_sample()
        ...
        sync.stop_duration_sample("checkout", sample_id)

    Returns:
        A number to give to `stop_duration_sample`, on any thread.
    """
    return monotonic_ns() if is_on() else NOT_RECORDING


def stop_duration_sample(label: str, sample_id: int) -> None:
    """Record the time since `start_duration_sample` as a duration, in seconds.

    Nothing is recorded if recording was off at the start.

    Parameters:
        label: The name of the time series.
        sample_id: What `start_duration_sample` returned.
    """
    end_ns = monotonic_ns()
    if sample_id != NOT_RECORDING:
        append_duration(label, end_ns, end_ns - sample_id)


def stop_at_process_end() -> None:
    """Stop any recording of this process; log what fails."""
    running = _State.running
    if running is not None and running.monitor.is_running:
        try:
            with _State.lock:
                recording, _State.running = _State.running, None
                if recording is not None:
                    recording.stop()
        except TelemetryError as exc:
            log.error("the recording could not be stopped at exit: %s", exc)
        finally:
            process_end.keep_exit_status()


def _running() -> _Recording:
    # A recording that was started automatically is not the program's to stop.
    if _State.running is None or _State.running.monitor.auto_started:
        raise NotRunningError
    return _State.running


def _stop_at_exit() -> None:
    if not process_end.is_left_to_finalizers(stop_at_process_end):
        stop_at_process_end()
