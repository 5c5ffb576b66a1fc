"""The process that a recorded service starts to make dumps: `python -m`, with a directory.

The environment says when: AQLTELEMETRY_WITH_DUMP. Its standard input is a pipe: once the service
has written to it or has ended, the process looks for two more seconds, and ends.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from aqltelemetry.conditions import parse_conditions
from aqltelemetry.dumps.watch import INTERVAL_S, Job, Watch
from aqltelemetry.journal.dir_lock import lock
from aqltelemetry.runtime.dump_process import DUMPS
from aqltelemetry.settings import settings
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import pause

_LAST_LOOKS = 2
_NICENESS = 10
_MODE = 0o750


def main() -> int:
    """Make dumps until the service ends; return the exit status."""
    os.nice(_NICENESS)
    parent = os.getppid()
    chosen = settings(sys.argv[1])
    folder = Path(chosen.directory, DUMPS)
    syscalls.make_directories(folder, _MODE)
    if lock(folder) is None:  # another process of the service watches
        return 0
    conditions = parse_conditions(chosen.with_dump)
    job = Job(chosen.directory, conditions, chosen.keep_dump_bytes, chosen.journal_dir)
    watch = Watch(job)
    has_ended = False
    while not has_ended:
        ready, _, _ = select.select([0], [], [], INTERVAL_S)
        # A fork of the service may hold the other end of the pipe open.
        has_ended = bool(ready) or os.getppid() != parent
        _step(watch)
    for _ in range(_LAST_LOOKS):  # a window ends at the last whole second
        pause(INTERVAL_S)
        _step(watch)
    return 0


def _step(watch: Watch) -> None:
    try:
        path = watch.step()
    except OSError as exc:
        _report(f"no dump can be made: {exc}")
    else:
        if path is not None:
            _report(f"made {path}")


def _report(line: str) -> None:
    sys.stderr.write(f"aqltelemetry dump: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
