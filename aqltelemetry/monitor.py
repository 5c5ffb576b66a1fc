"""The monitor as users hold it: started and stopped, one at a time in a process."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, Unpack

from aqltelemetry import recorder
from aqltelemetry.errors import AlreadyRunningError, NotRunningError
from aqltelemetry.forked import ChildFeeder
from aqltelemetry.parts import Parts
from aqltelemetry.session import Session
from aqltelemetry.settings import Options, Settings, settings
from aqltelemetry.stats import Stats
from aqltelemetry.threads import WorkerThread

if TYPE_CHECKING:
    from types import TracebackType

    from aqltelemetry.profiler import Profiler

_log = logging.getLogger("aqltelemetry")


class Monitor:
    """Records a process's observations into CSV files, from `start` to `stop`.

    Of all monitors of a process one may run at a time, since `time_block` and
    `record` go to the one that does. Directory and options may be given here or
    to `start`; for the options, their rules and environment variables see
    `aqltelemetry.settings.Settings`.
    """

    def __init__(
        self, monitoring_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]
    ) -> None:
        self._directory = monitoring_dir
        self._options: dict[str, Any] = dict(options)
        self._settings: Settings | None = None
        self._session: Session | None = None
        self._closing: Session | None = None
        self._profiler: Profiler | None = None
        self._last_stats = Stats()
        self.is_apart = False
        """Whether the application's code runs on other threads than the event loop's."""
        self.is_unasked = False
        """Whether it was begun by nothing in the program, and ends for what is."""

    def __repr__(self) -> str:
        state = f"recording into {self.directory!r}" if self.is_running else "not running"
        return f"<Monitor {state}>"

    @property
    def is_running(self) -> bool:
        """Whether this monitor records."""
        return self._session is not None

    @property
    def directory(self) -> str | None:
        """The monitoring directory, absolute; None before the first start."""
        return self._settings.directory if self._settings else None

    async def start(
        self, monitoring_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]
    ) -> None:
        """Begin to record, on the running event loop.

        Raises OptionError, MonitoringDirectoryError, ProfilerError, or
        AlreadyRunningError while this or another monitor runs.
        """
        before = _Active.claim(self)
        try:
            self._settings = settings(
                self._directory if monitoring_dir is None else monitoring_dir,
                self._options | options,
            )
            self._session = await self._open(self._settings)
            if before is not None:
                # Now that what is observed goes to this one, so nothing is missed.
                await before._make_way(self._settings.stop_timeout_s)  # noqa: SLF001
            if self._settings.with_profiler:
                self._start_profiler()
        except BaseException:
            session, self._session = self._session, None
            if session is not None:
                await session.close(0)
            _Active.release(self, before)
            raise

    async def stop(self) -> Stats:
        """End the recording and publish it; return the final account.

        Takes `stop_timeout_s` at most; what is not published by then stays in
        the journal for the next start, which is logged. Raises NotRunningError
        if the monitor is not running, StateError on another event loop.
        """
        session, chosen = self._session, self._settings
        if session is None or chosen is None:
            raise NotRunningError
        session.check_loop()
        self._session, self._closing = None, session
        try:
            published = await session.close(chosen.stop_timeout_s)
        finally:
            _Active.release(self)
            self._stop_profiler()
            self._closing, self._last_stats = None, session.stats()
        if not published and self._last_stats.in_journal:
            _log.warning(
                "stopped after %g s with %d observations unpublished in the journal",
                chosen.stop_timeout_s,
                self._last_stats.in_journal,
            )
        return self._last_stats

    async def flush(self) -> None:
        """Have everything recorded until now published.

        Raises NotRunningError if the monitor is not running, StateError on
        another event loop.
        """
        if self._session is None:
            raise NotRunningError
        self._session.check_loop()
        await self._session.flush()

    def stats(self) -> Stats:
        """Return the account of the recording: of this run, or of the last."""
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

    async def _open(self, chosen: Settings) -> Session:
        thread = WorkerThread("aqltelemetry-journal")
        assembling = thread.submit(_assemble, chosen, self.stats, thread)
        try:
            parts = await asyncio.wrap_future(assembling)
        except BaseException:
            # Cancelled, it may be amid its work and make the parts all the same.
            assembling.add_done_callback(_disassemble)
            thread.shutdown(wait=False)
            raise
        session = Session(parts, self._make_profiler)
        await session.open()
        _Active.end_child_recording(thread)
        return session

    def _make_profiler(self) -> Profiler:
        from aqltelemetry.profiler import Profiler  # noqa: PLC0415 - cProfile is rarely wanted

        return Profiler(self.directory or "", apart=self.is_apart)

    def _start_profiler(self) -> None:
        profiler = self._make_profiler()
        profiler.start()
        self._profiler = profiler

    def _stop_profiler(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            try:
                profiler.stop()
            except OSError as exc:
                _log.error("the profile can't be written: %s", exc)

    async def _make_way(self, timeout_s: float) -> None:
        """Stop, for another monitor, which may be on another event loop."""
        session = self._session
        if session is not None:
            # A loop that is closed, or that runs nothing any more, stops nothing.
            with suppress(NotRunningError, RuntimeError, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await session.await_there(self.stop)
            self._abandon()

    def _abandon(self) -> bool:
        """Give up a session whose event loop is gone; say whether it was."""
        session = self._session
        if session is None or session.is_usable:
            return False
        self._session = None
        self._stop_profiler()
        session.abandon()
        self._last_stats = session.stats()
        return True

    def _abandon_in_child(self) -> ChildFeeder | None:
        session, self._session = self._session, None
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            profiler.disable()
        self._last_stats = Stats()
        return session.abandon_in_child() if session is not None else None


class _Active:
    """Which monitor of this process runs, and what a forked child does of its own."""

    monitor: Monitor | None = None
    child: ChildFeeder | None = None
    hooked = False

    @classmethod
    def claim(cls, monitor: Monitor) -> Monitor | None:
        """Make a monitor the one that runs; return one that is to make way for it."""
        running = cls.monitor
        makes_way = running is not None and running.is_unasked and running.is_running
        if running is not None and not makes_way and not running._abandon():  # noqa: SLF001
            raise AlreadyRunningError(running.directory or "")
        cls.monitor = monitor
        if not cls.hooked:
            # For good: such a hook can't be taken back.
            os.register_at_fork(after_in_child=cls.forked)
            cls.hooked = True
        return running if makes_way else None

    @classmethod
    def release(cls, monitor: Monitor, before: Monitor | None = None) -> None:
        if cls.monitor is monitor:
            is_there = before is not None and before.is_running
            cls.monitor = before if is_there else None

    @classmethod
    def forked(cls) -> None:
        running, cls.monitor = cls.monitor, None
        was_on = recorder.is_on()
        if running is not None:
            cls.child = running._abandon_in_child()  # noqa: SLF001 - of the same file
        elif cls.child is not None:
            cls.child = cls.child.abandon_in_child()
        # A child of a recording that is switched off stays so: nothing there looks.
        if cls.child is not None and was_on:
            recorder.install(cls.child.begin())

    @classmethod
    def end_child_recording(cls, thread: WorkerThread) -> None:
        child, cls.child = cls.child, None
        if child is not None:
            thread.post(child.close)


def _assemble(chosen: Settings, stats: Any, thread: WorkerThread) -> Parts:
    # Imported by the first start, off the event loop: a process that never
    # records need not carry what reads its statistics and writes its files.
    from aqltelemetry.assembly import assemble  # noqa: PLC0415

    return assemble(chosen, stats, thread)


def _disassemble(assembling: Future[Parts]) -> None:
    if not assembling.cancelled() and assembling.exception() is None:
        assembling.result().discard()


monitor = Monitor()
"""The monitor to use where one is enough."""
