"""Profiles a process into a file that `python -m pstats` or speedscope opens.

A profile for pstats is made by yappi if it is installed: yappi sees all threads, and counts a
coroutine's waiting as time of that coroutine. Otherwise cProfile makes it. cProfile sees one
thread on Python 3.11, the one that starts it; on an event loop it counts each resumption of a
coroutine as a call and does not count waiting. A profile for speedscope consists of samples of
all threads' stacks. No profile contains the threads of the telemetry.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from aqltelemetry.errors import ProfilerError
from aqltelemetry.observation import PROFILER
from aqltelemetry.runtime.control_files import PSTATS, SPEEDSCOPE
from aqltelemetry.runtime.stack_profiler import StackProfiler
from aqltelemetry.sinks.publication import take_name
from aqltelemetry.system import threads
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import is_own
from aqltelemetry.system.unpatched import are_greenlets, native

# Since this version cProfile sees all threads, on whichever it is started.
_ALL_THREADS = (3, 12)
_FILE_MODE = 0o640
_SUFFIXES = {PSTATS: "data", SPEEDSCOPE: "speedscope.json"}
_OWN_CONTEXT = "telemetry"


class _Engine(Protocol):
    def start(self) -> None:
        """Start; raises ProfilerError while another profiler is active."""
        ...

    def end(self) -> None:
        """Stop profiling."""
        ...

    def dump(self, path: Path) -> None:
        """Write the profile; raises OSError."""
        ...


class Profiler:
    """Profile from `start` to `stop`, which writes a file.

    The file is `profiler.<PID>.data`, or `profiler.<PID>.speedscope.json` for the form
    SPEEDSCOPE. If the name is taken, by an earlier profile or by a process of another
    container, the file is `profiler.<PID>.2.data`, and so on.

    - `directory`: the folder of the file.
    - `form`: PSTATS or SPEEDSCOPE.
    - `other_threads`: True if the code of interest runs on other threads than the one that
      starts the profiler.
    - `seconds`: the longest time of the profile.

    Raises ProfilerError if only yappi can see those threads, and it is not installed.
    """

    def __init__(
        self,
        directory: str,
        form: str = PSTATS,
        *,
        other_threads: bool = False,
        seconds: float = 3600.0,
    ) -> None:
        self._directory = Path(directory)
        self._suffix = _SUFFIXES[form]
        self._path = self._name(1)
        is_sampled = form == SPEEDSCOPE
        self._engine = (
            StackProfiler(seconds) if is_sampled else _engine(other_threads=other_threads)
        )

    @property
    def path(self) -> str:
        """The file that `write` has written; before that, the name that it tries first."""
        return str(self._path)

    def start(self) -> None:
        """Start; raises ProfilerError while another profiler is active."""
        self._engine.start()

    def disable(self) -> None:
        """Stop profiling."""
        self._engine.end()

    def stop(self) -> None:
        """Stop profiling and write the file; raises OSError, and leaves no file then."""
        self.disable()
        self.write()

    def write(self) -> None:
        """Write the file, on any thread, after `disable`; raises OSError."""
        made = self._directory / f"{PROFILER}.{os.urandom(8).hex()}.0.tmp"
        try:
            self._engine.dump(made)
            made.chmod(_FILE_MODE)
            self._publish(made)
        finally:
            with suppress(OSError):
                made.unlink()

    def _publish(self, made: Path) -> None:
        """Give the file a name that is free; no file is overwritten."""
        number = 1
        while True:
            try:
                take_name(str(made), str(self._name(number)))
            except FileExistsError:
                number += 1
            else:
                self._path = self._name(number)
                return

    def _name(self, number: int) -> Path:
        middle = "" if number == 1 else f".{number}"
        return self._directory / f"{PROFILER}.{os.getpid()}{middle}.{self._suffix}"


class _CProfile:
    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    def start(self) -> None:
        _refuse_another()
        try:
            self._profile.enable()
        except ValueError as exc:  # from Python 3.12 on, if another one was started since
            raise _busy(exc) from exc

    def end(self) -> None:
        self._profile.disable()

    def dump(self, path: Path) -> None:
        stats = pstats.Stats(self._profile)
        leave_out(stats.stats, threads.__file__)  # type: ignore[attr-defined]
        stats.dump_stats(path)


def leave_out(stats: dict[Any, Any], file: str) -> None:
    """Remove a file's functions from pstats statistics, and the calls that they made."""
    own = [function for function in stats if function[0] == file]
    for function in own:
        del stats[function]
    for function, (*numbers, callers) in list(stats.items()):
        called = [callers.pop(caller) for caller in own if caller in callers]
        if called:
            left = [
                number - sum(part)
                for number, part in zip(numbers, zip(*called, strict=True), strict=True)
            ]
            stats[function] = (*left, callers)
            if not callers and left[1] <= 0:
                del stats[function]


class _Yappi:
    def __init__(self, yappi: ModuleType) -> None:
        self._yappi = yappi

    def start(self) -> None:
        _refuse_another()
        # The program's own results, if it has not saved them yet, would be lost.
        if self._yappi.is_running() or not self._yappi.get_func_stats().empty():
            raise _busy(self._yappi)
        self._yappi.clear_stats()
        self._yappi.set_clock_type("wall")
        self._yappi.set_context_backend("greenlet" if are_greenlets() else "native_thread")
        get_ident = native("_thread", "get_ident")
        self._yappi.set_context_name_callback(
            lambda: _OWN_CONTEXT if is_own(get_ident()) else "thread"
        )
        self._yappi.start()

    def end(self) -> None:
        self._yappi.stop()

    def dump(self, path: Path) -> None:
        found = self._yappi.get_func_stats(
            filter_callback=lambda function: function.ctx_name != _OWN_CONTEXT
        )
        try:
            found.save(str(path), "pstat")
        finally:
            # Otherwise no other profile could start.
            self._yappi.clear_stats()
            self._yappi.set_context_name_callback(None)


def _refuse_another() -> None:
    """Raise ProfilerError, with its name, while another profiler is active on any thread."""
    yappi = sys.modules.get("yappi")
    active: object = yappi if yappi is not None and yappi.is_running() else None
    active = active or sys.getprofile() or threading.getprofile()
    if active is None and (monitoring := getattr(sys, "monitoring", None)):
        active = monitoring.get_tool(monitoring.PROFILER_ID)
    if active is not None:
        raise _busy(active)


def _busy(active: object) -> ProfilerError:
    return ProfilerError(f"a profiler is active already: {active!r}; only one can be")


def _engine(*, other_threads: bool) -> _Engine:
    try:
        import yappi  # noqa: PLC0415 - an extra, and rarely wanted
    except ImportError:
        if other_threads and sys.version_info < _ALL_THREADS:
            msg = "only yappi sees the threads of interest: install aqltelemetry[profiler]"
            raise ProfilerError(msg) from None
        log.warning(
            "profiling by cProfile, which shows little of coroutines and sees one thread "
            "on Python 3.11; aqltelemetry[profiler] shows more"
        )
        return _CProfile()
    return _Yappi(yappi)
