"""The process that a recorded service starts to archive its files: `python -m`, with a directory.

The environment says how old a file must be, and which roll-ups to make. The process ends with the
service, which its standard input shows: at once, since nothing is lost by that. All processes of a
service share one.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable

from aqltelemetry.archive.compact import compact
from aqltelemetry.archive.rollup import RollUps
from aqltelemetry.errors import ArchiveBusyError, TelemetryError
from aqltelemetry.settings import settings
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, pause
from aqltelemetry.system.priority import go_last
from aqltelemetry.system.threads import start_thread

LOCK_NAME = ".archive-child.lock"
"""A file in a directory that the process locks while it lives."""
_INTERVAL_S = 60.0
_POLL_S = 1.0
_TRIES = 5
_WAIT_S = 0.02
_LOCK_MODE = 0o640


def main() -> int:
    """Archive the files of a directory once a minute, until the service ends."""
    go_last()
    chosen = settings(sys.argv[1])
    directory = chosen.directory
    start_thread(_end_with_service, "aqltelemetry-end")
    if not _lock(os.path.join(directory, LOCK_NAME)):  # another process of the service has one
        return 0
    age_ns = int(chosen.compact_after_s * NS_PER_S)
    rollups = None
    if chosen.compact_rollup_s:
        rollups = RollUps(
            int(chosen.compact_rollup_s * NS_PER_S), int(chosen.keep_rollups_s * NS_PER_S)
        )
    reported: set[str] = set()
    while True:
        archive(directory, age_ns, rollups, reported, _report)
        pause(_INTERVAL_S)


def archive(
    directory: str,
    age_ns: int,
    rollups: RollUps | None,
    reported: set[str],
    report: Callable[[str], object],
) -> None:
    """Archive what is old enough, and make roll-ups; report each failure once."""
    try:
        failures = [f"{name}: {why}" for name, why in _left(directory, age_ns, rollups)]
    except ArchiveBusyError:  # the command works there
        return
    except (OSError, TelemetryError) as exc:
        failures = [str(exc)]
    for failure in failures:
        if failure not in reported:
            reported.add(failure)
            report(failure)


def _left(directory: str, age_ns: int, rollups: RollUps | None) -> list[tuple[str, str]]:
    return [*compact(directory, older_than_ns=age_ns, rollups=rollups).left.items()]


def _report(line: str) -> None:
    sys.stderr.write(f"aqltelemetry compact: {line}\n")


def _lock(path: str) -> bool:
    """Return whether this process has the lock, until it ends."""
    fd = syscalls.open_file(path, os.O_RDWR | os.O_CREAT, _LOCK_MODE)
    for _ in range(_TRIES):
        try:
            syscalls.lock(fd)
        except BlockingIOError:  # somebody may just be looking
            pause(_WAIT_S)
        else:
            return True
    return False


def _end_with_service() -> None:
    parent = os.getppid()
    # A fork of the service may hold the other end of the pipe open.
    while os.getppid() == parent and not select.select([0], [], [], _POLL_S)[0]:
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
