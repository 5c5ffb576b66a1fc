"""Says whether directories may have changed since they were listed, without listing them again.

A file that appears in a directory, or leaves it, changes the directory's time. But that time may be
as coarse as two seconds: what happens right after a listing may leave it as it was. So it counts
only once it is older than that. And it counts for a minute: the clock of a file server may differ,
and clocks are set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

COARSEST_NS = 3 * NS_PER_S
"""The age of a directory's time from which on each change shows in it, in nanoseconds."""
LONGEST_NS = 60 * NS_PER_S
"""How long directories are believed to be unchanged, in nanoseconds."""
_State = tuple[int, int, int, int]


class DirectoryTimes:
    """The times of some directories.

    Args:
        directories: Their paths.
        now_ns: Returns the time in nanoseconds since the epoch.
    """

    def __init__(self, directories: Sequence[str], now_ns: Callable[[], int] = epoch_ns) -> None:
        self._directories = directories
        self._now_ns = now_ns
        self._noted_ns = 0
        self._noted: Sequence[_State] | None = None

    def note(self) -> None:
        """Note the times; call it before the directories are listed."""
        self._noted_ns = now_ns = self._now_ns()
        found = self._states()
        are_old = all(now_ns - max(state[-2:]) >= COARSEST_NS for state in found or ())
        self._noted = found if are_old else None

    def are_unchanged(self) -> bool:
        """Return whether no file has appeared or left since `note`; False if that is uncertain."""
        if self._noted is None or not 0 <= self._now_ns() - self._noted_ns < LONGEST_NS:
            return False
        return self._noted == self._states()

    def _states(self) -> Sequence[_State] | None:
        """Return what identifies each directory, and its times; None if one can't be found."""
        found = []
        for path in self._directories:
            try:
                state = syscalls.look_at(os.path.join(path, "."))  # of the target of a link
            except OSError:
                return None
            found.append((state.st_dev, state.st_ino, state.st_mtime_ns, state.st_ctime_ns))
        return found
