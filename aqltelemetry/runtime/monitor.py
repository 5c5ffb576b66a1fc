"""The monitor: what users start and stop, one at a time in a process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack

from aqltelemetry.errors import FreeThreadingError, NotRunningError, StateError
from aqltelemetry.recording.forked_child import ChildSegments
from aqltelemetry.recording.stats import Stats
from aqltelemetry.runtime.active import Active
from aqltelemetry.runtime.control_files import MAX_PROFILE_S, PSTATS
from aqltelemetry.runtime.control_task import NewProfiler
from aqltelemetry.runtime.session import Parts, Session, StartContext, open_session
from aqltelemetry.settings import Options, Settings, settings
from aqltelemetry.system.extensions import has_interpreter_lock
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import WorkerThread

if TYPE_CHECKING:
    from types import TracebackType

    from aqltelemetry.runtime.profiler import Profiler


class Monitor:
    """Records the observations of a process into CSV files, from `start` to `stop`.

        async with Monitor("_monitoring", keep_bytes="2g"):
            await serve()

    One monitor of a process runs at a time, because `time_block` and `record` write to the
    one that runs. Directory and options are given here or to `start`, which takes precedence.
    `aqltelemetry.monitor` is an instance to use where one is enough.

    Parameters:
        monitoring_dir: The directory for the files; by default that of the environment
            variable AQLTELEMETRY_DIR, else `_monitoring`.
        **options: Any of those of `start`; by default those of the environment, such as
            AQLTELEMETRY_KEEP_BYTES.

    Raises:
        OptionError: For a wrong directory or option.
    """

    def __init__(
        self, monitoring_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]
    ) -> None:
        # Arguments are checked at once, the environment at each start.
        settings(monitoring_dir, options, {})
        self._directory = monitoring_dir
        self._options: dict[str, Any] = dict(options)
        self._settings: Settings | None = None
        self._session: Session | None = None
        self._closing: Session | None = None
        self._profiler: Profiler | None = None
        self._last_stats = Stats()
        self.on_own_thread = False
        """Whether the monitor's event loop runs on a thread that only the recording uses."""
        self.auto_started = False
        """Whether the program did not start it; it stops when the program starts its own."""

    def __repr__(self) -> str:
        state = f"recording into {self.directory!r}" if self.is_running else "not running"
        return f"<Monitor {state}>"

    @property
    def is_running(self) -> bool:
        """Whether this monitor records."""
        return self._session is not None

    @property
    def settings(self) -> Settings | None:
        """The options of the recording; None before the first start."""
        return self._settings

    @property
    def directory(self) -> str | None:
        """The monitoring directory, absolute; None before the first start."""
        return self._settings.directory if self._settings else None

    async def start(
        self, monitoring_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]
    ) -> None:
        """Start to record on the running event loop, and return when recording is on.

            await monitor.start("_monitoring", keep_bytes="2g")

        Recording goes on until `stop`. What an earlier, killed process left in the journal is
        published meanwhile. A recording that `aqltelemetry run` started is replaced.

        Parameters:
            monitoring_dir: The directory for the files; by default that of `Monitor`, else of
                the environment variable AQLTELEMETRY_DIR, else `_monitoring`.
            **options: Any of those below; by default those of `Monitor`, else of the
                environment, such as AQLTELEMETRY_KEEP_BYTES.

        Options. A time is a number of seconds, a `timedelta`, or a text such as "90s" or "7d";
        a size is a number of bytes, or a text such as "2g":

        - `with_runtime`: Sample the garbage collector, the process and the event loop, and record
          stalls. Default: yes.
        - `with_event_loop`: Sample the event loop: its lag and its number of tasks. Default: yes.
        - `with_stalls`: Record what blocks the event loop that the recording runs on. Default: yes.
        - `with_cpu_time`: Record how much of each request ran on a processor. Default: no.
        - `with_profiler`: Profile from start to stop: all threads and coroutines with yappi where
          it is installed, else the event loop's thread with cProfile. Default: no.
        - `with_fsync`: Force files to the disk before they appear, against a loss of power.
          Default: no.
        - `interval_s`: Seconds between two samples. Default: 1 s.
        - `stall_threshold_s`: Shortest time in seconds without an answer of the event loop that is
          recorded as a stall; 0 records none. Default: 0.05 s.
        - `stalled_request_s`: Shortest request on a thread that is a stall; 0: none. Default: 1 s.
        - `flush_interval_s`: Seconds after which observations leave the journal for a file that is
          not yet published. Default: 5 s.
        - `max_file_bytes`: Size that no CSV file exceeds. Default: 16 MiB.
        - `max_file_age_s`: Seconds after which a file is published even if it is not full. Default:
          60 s.
        - `keep_bytes`: Size of all published files above which the oldest are removed.
          Default: 1 GiB.
        - `keep_s`: Age in seconds above which files are removed. Default: 7 days.
        - `journal_dir`: Directory of the journal; "auto" chooses one, "memory" uses no files.
          Default: auto.
        - `journal_bytes`: Size of a process's journal above which new observations are dropped and
          counted. Default: 64 MiB.
        - `stop_timeout_s`: Longest time in seconds that a stop takes. Default: 5 s.
        - `compact_after_s`: Age in seconds from which files are archived; 0 for none. Default: 0 s.
        - `compact_rollup_s`: Interval in seconds of the roll-ups that are made of archives; 0 for
          none. Default: 0 s.
        - `keep_rollups_s`: Age in seconds above which roll-ups are removed. Default: 400 days.
        - `ship_to`: Store that a process of its own ships published files to. Default: none.
        - `with_dump`: When a process next to the recorded ones copies the last minute of the
          recording aside. Default: none.
        - `keep_dump_bytes`: Size of all dumps above which the oldest are removed. Default: 256 MiB.
        - `samplers`: Samplers to run in addition to the built-in ones. Default: none.
        - `sinks`: Sinks to write to in addition to the CSV files. Default: none.

        Raises:
            OptionError: For a wrong directory or option.
            MonitoringDirectoryError: If the directory can't be created or written to.
            ProfilerError: If the process can't be profiled, as while another profiler is active.
            AlreadyRunningError: While this or another monitor of the process runs.
            FreeThreadingError: On a Python without the global interpreter lock.
            StateError: If asyncio does not run the caller, as under trio.
        """
        await self.open(monitoring_dir, **options)
        await self.take_over()

    async def open(
        self, monitoring_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]
    ) -> None:
        """Start as `start` does, but keep an automatically started recording until `take_over`.

        If this raises, the automatically started recording goes on.
        """
        if not has_interpreter_lock():
            raise FreeThreadingError
        _require_asyncio()
        Active.activate(self)
        try:
            self._settings = settings(
                self._directory if monitoring_dir is None else monitoring_dir,
                self._options | options,
            )
            _handle_signal(self._settings)
            self._session = await open_session(
                partial(_assemble, self._settings, self.stats, self._new_profiler()),
                partial(Active.check_wanted, self),
            )
            if self._settings.with_profiler:
                self._start_profiler()
            Active.check_active(self)
            Active.end_child_recording(self._session.journal_thread)
        except BaseException:
            await self._give_up()
            raise

    async def take_over(self) -> None:
        """Stop the automatically started recording that this one replaces, if there is one.

        This one records already, so nothing is missed in between.
        """
        before, chosen = Active.take_replaced(self), self._settings
        # The other one may have begun to record meanwhile: both start on threads of their own.
        self.resume()
        if before is not None and chosen is not None:
            try:
                await before.make_way(chosen.stop_timeout_s)
            except BaseException:  # cancelled, so that `start` fails
                Active.replaced = before
                await self._give_up()
                raise

    async def stop(self) -> Stats:
        """Stop the recording and publish it.

        It takes `stop_timeout_s` at most. What is not published by then stays in the journal
        for the next start, which is logged.

        Returns:
            The final statistics.

        Raises:
            NotRunningError: If the monitor is not running.
            StateError: On another event loop than that of `start`.
        """
        session, chosen = self._session, self._settings
        if session is None or chosen is None:
            raise NotRunningError
        session.check_loop()
        self._session, self._closing = None, session
        deadline_s = asyncio.get_running_loop().time() + chosen.stop_timeout_s
        try:
            published = await session.close(chosen.stop_timeout_s)
        finally:
            Active.deactivate(self)
            await self._end_profile(deadline_s)
            self._closing, self._last_stats = None, session.stats()
        if not published and self._last_stats.in_journal:
            log.warning(
                "stopped after %g s with %d observations unpublished in the journal",
                chosen.stop_timeout_s,
                self._last_stats.in_journal,
            )
        return self._last_stats

    async def flush(self) -> None:
        """Wait until all observations so far are published.

        Raises:
            NotRunningError: If the monitor is not running.
            StateError: On another event loop than that of `start`.
            DeliveryError: If a sink failed; the observations stay in the journal.
        """
        if self._session is None:
            raise NotRunningError
        self._session.check_loop()
        await self._session.flush()

    async def sample(self) -> None:
        """Take a sample of each series now; do nothing if the monitor is not running."""
        if self._session is not None:
            await self._session.sample()

    def stats(self) -> Stats:
        """Return the statistics of the recording: of this run, or of the last."""
        session = self._session or self._closing
        return self._last_stats if session is None else session.stats()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_running:
            await self.stop()

    async def _give_up(self) -> None:
        """Undo a start that has failed."""
        Active.deactivate(self)  # first, so that a replaced monitor records again at once
        session, self._session = self._session, None
        self._stop_profiler()
        if session is not None:
            await session.close(0)

    def _new_profiler(self) -> NewProfiler:
        return partial(_profiler, self.directory or "", other_threads=self.on_own_thread)

    def _start_profiler(self) -> None:
        profiler = self._new_profiler()(PSTATS, MAX_PROFILE_S)
        profiler.start()
        self._profiler = profiler

    async def _end_profile(self, deadline_s: float) -> None:
        """End the profile and write it on a thread, until a time of the event loop's clock."""
        profiler, self._profiler = self._profiler, None
        if profiler is None:
            return
        try:
            profiler.disable()
            try:
                thread = WorkerThread("aqltelemetry-profile")
            except RuntimeError:  # at the interpreter's exit no thread can be started
                profiler.write()
                return
            writing = asyncio.wrap_future(thread.submit(profiler.write))
            thread.shutdown(wait=False)
            async with asyncio.timeout_at(deadline_s):
                await asyncio.shield(writing)
        except Exception as exc:  # noqa: BLE001 - the stop goes on, whatever a profiler raises
            log.error("the profile can't be written: %s", str(exc) or repr(exc))

    def _stop_profiler(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            try:
                profiler.stop()
            except OSError as exc:
                log.error("the profile can't be written: %s", exc)

    async def make_way(self, timeout_s: float) -> None:
        """Stop, for another monitor, which may be on another event loop."""
        session = self._session
        if session is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await session.await_there(self.stop)
            except Exception as exc:  # noqa: BLE001 - the other monitor has started all the same
                # An event loop that is closed, or runs no more, can't stop it.
                log.debug("the recording that was replaced could not be stopped: %r", exc)
            self.abandon()

    def abandon(self) -> bool:
        """Give up a session whose event loop is gone; return whether it was."""
        session = self._session
        if session is None or session.is_usable:
            return False
        self._session = None
        self._stop_profiler()
        session.abandon()
        self._last_stats = session.stats()
        return True

    def resume(self) -> None:
        """Record again, in place of another monitor that did not start."""
        if self._session is not None:
            self._session.resume()

    def abandon_in_child(self) -> ChildSegments | None:
        """Leave everything to the parent process; return what a recording of the child uses."""
        session, self._session = self._session, None
        closing, self._closing = self._closing, None
        profiler, self._profiler = self._profiler, None
        self._last_stats = Stats()
        if closing is not None:
            closing.abandon_in_child()
        child = session.abandon_in_child() if session is not None else None
        if profiler is not None:
            profiler.disable()
        return child


def _require_asyncio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        msg = "asyncio does not run here: use aqltelemetry.sync, which has a thread of its own"
        raise StateError(msg) from None


def _handle_signal(chosen: Settings) -> None:
    if chosen.with_dump:
        from aqltelemetry.runtime.dump_process import handle_signal  # noqa: PLC0415 - most need none

        handle_signal(chosen)


def _assemble(
    chosen: Settings,
    stats: Callable[[], Stats],
    new_profiler: NewProfiler,
    context: StartContext,
) -> Parts:
    # Imported by the first start, off the event loop: a process that never
    # records does not load what reads its statistics and writes its files.
    from aqltelemetry.runtime.assembly import assemble  # noqa: PLC0415

    return assemble(chosen, stats, new_profiler, context)


def _profiler(directory: str, form: str, seconds: float, *, other_threads: bool) -> Profiler:
    from aqltelemetry.runtime.profiler import Profiler  # noqa: PLC0415 - cProfile is rarely wanted

    return Profiler(directory, form, other_threads=other_threads, seconds=seconds)


monitor = Monitor()
"""The monitor to use where one is enough."""
