"""Profiles the thread that starts it, into a file that `python -m pstats` opens."""

from __future__ import annotations

import cProfile
import os
import sys
from contextlib import suppress
from pathlib import Path

from aqltelemetry.errors import ProfilerError


class Profiler:
    """Runs cProfile from `start` to `stop`, which writes `profiler.<PID>.data`.

    cProfile sees one thread, and on an event loop it counts each resumption of a
    coroutine as a call and none of its waiting as time.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / f"profiler.{os.getpid()}.data"
        self._profile = cProfile.Profile()

    def start(self) -> None:
        """Begin; raises ProfilerError while another profiler is active on this thread."""
        active = sys.getprofile()
        if active is not None:
            # Python 3.11 would silently put ours in its place.
            msg = f"a profiler is active already: {active!r}; only one can be"
            raise ProfilerError(msg)
        try:
            self._profile.enable()
        except ValueError as exc:  # what Python 3.12 and later raise
            raise ProfilerError(str(exc)) from exc

    def disable(self) -> None:
        """Profile no more, and forget it all."""
        self._profile.disable()

    def stop(self) -> None:
        """End, and write the file, whole or not at all; raises OSError."""
        self._profile.disable()
        made = self._path.with_suffix(".tmp")
        try:
            self._profile.dump_stats(made)
            made.replace(self._path)
        except BaseException:
            with suppress(OSError):
                made.unlink()
            raise
