"""Profiles a process into a file that `python -m pstats` opens.

By yappi, where it is installed: it sees all threads, and a coroutine's waiting as the
time of that coroutine. Else by cProfile, which on Python 3.11 sees the one thread that
starts it, and on an event loop counts each resumption of a coroutine as a call and
none of its waiting as time.
"""

from __future__ import annotations

import cProfile
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Protocol

from aqltelemetry.errors import ProfilerError
from aqltelemetry.threads import are_greenlets

_log = logging.getLogger("aqltelemetry")
# From then on cProfile sees all threads, whichever starts it.
_ALL_THREADS = (3, 12)
_FILE_MODE = 0o640


class _Engine(Protocol):
    def start(self) -> None:
        """Begin; raises ProfilerError while another profiler is active."""
        ...

    def end(self) -> None:
        """Profile no more."""
        ...

    def dump(self, path: Path) -> None:
        """Write what was found; raises OSError."""
        ...


class Profiler:
    """Profiles from `start` to `stop`, which writes `profiler.<PID>.data`.

    `apart` says that what is of interest runs on other threads than the one that
    starts the profiler. Raises ProfilerError where only yappi would see those, and
    it is not installed.
    """

    def __init__(self, directory: str, *, apart: bool = False) -> None:
        self._path = Path(directory) / f"profiler.{os.getpid()}.data"
        self._engine = _engine(apart=apart)

    @property
    def path(self) -> str:
        """The file that `stop` writes."""
        return str(self._path)

    def start(self) -> None:
        """Begin; raises ProfilerError while another profiler is active."""
        self._engine.start()

    def disable(self) -> None:
        """Profile no more."""
        self._engine.end()

    def stop(self) -> None:
        """End, and write the file, whole or not at all; raises OSError."""
        self.disable()
        self.write()

    def write(self) -> None:
        """Write the file, on any thread, after `disable`; raises OSError."""
        made = self._path.with_suffix(".tmp")
        try:
            self._engine.dump(made)
            made.chmod(_FILE_MODE)
            made.replace(self._path)
        except BaseException:
            with suppress(OSError):
                made.unlink()
            raise


class _CProfile:
    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    def start(self) -> None:
        active = sys.getprofile()
        if active is not None:
            # Python 3.11 would silently put ours in its place.
            raise _busy(active)
        try:
            self._profile.enable()
        except ValueError as exc:  # what Python 3.12 and later raise
            raise ProfilerError(str(exc)) from exc

    def end(self) -> None:
        self._profile.disable()

    def dump(self, path: Path) -> None:
        self._profile.dump_stats(path)


class _Yappi:
    def __init__(self, yappi: ModuleType) -> None:
        self._yappi = yappi

    def start(self) -> None:
        active = sys.getprofile()
        if active is not None:
            raise _busy(active)
        # What the program found by it, and has not saved yet, would be lost.
        if self._yappi.is_running() or not self._yappi.get_func_stats().empty():
            raise _busy(self._yappi)
        self._yappi.clear_stats()
        self._yappi.set_clock_type("wall")
        self._yappi.set_context_backend("greenlet" if are_greenlets() else "native_thread")
        self._yappi.start()

    def end(self) -> None:
        self._yappi.stop()

    def dump(self, path: Path) -> None:
        self._yappi.get_func_stats().save(str(path), "pstat")
        self._yappi.clear_stats()


def _busy(active: object) -> ProfilerError:
    return ProfilerError(f"a profiler is active already: {active!r}; only one can be")


def _engine(*, apart: bool) -> _Engine:
    try:
        import yappi  # noqa: PLC0415 - an extra, and rarely wanted
    except ImportError:
        if apart and sys.version_info < _ALL_THREADS:
            msg = "only yappi sees the threads of interest: install aqltelemetry[profiler]"
            raise ProfilerError(msg) from None
        _log.warning(
            "profiling by cProfile, which tells little of coroutines and sees one thread "
            "on Python 3.11; aqltelemetry[profiler] tells more"
        )
        return _CProfile()
    return _Yappi(yappi)
