"""Notes how a process ended, where its parent sees it; see `journal.evidence`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aqltelemetry.journal.dead_writers import find_writers
from aqltelemetry.journal.dir_lock import is_alive, lock_holder
from aqltelemetry.journal.evidence import EXIT_NAME, read_evidence, write_evidence
from aqltelemetry.system.clock import epoch_ns

_LOOKS = 3


def note_exit(
    roots: Iterable[Path],
    pid: int,
    code: int | None,
    witness: str,
    timeout_s: float | None = None,
) -> bool:
    """Note how a child process ended, for its autopsy; return whether it had left anything.

    Args:
        roots: Where its journal may be.
        pid: The process.
        code: Its exit status, or the negative number of the signal that ended it; None if unknown.
        witness: Who says so: `Gunicorn` or `aqltelemetry run`.
        timeout_s: The timeout in seconds for which it was ended; None if it was not.
    """
    content = {
        "pid": pid,
        "at_ns": epoch_ns(),
        "code": code if code is not None and code >= 0 else None,
        "signal": -code if code is not None and code < 0 else None,
        "witness": witness,
        "timeout_s": timeout_s,
    }
    is_found = False
    for root in roots:
        for directory in find_writers(root):
            if _pid_of(directory) == pid and _has_ended(directory, pid):
                # A process that recovers it may remove what is being written, once.
                is_found = any(_is_written(directory, content) for _ in range(2)) or is_found
    return is_found


def _has_ended(directory: Path, pid: int) -> bool:
    """Return whether the writer in a directory is dead; its lock may be held by a recovery.

    A living one with this PID can only be in another PID namespace, or have got it since.
    """
    for _ in range(_LOOKS):
        if not is_alive(directory):
            return True
        if holder := lock_holder(directory):  # else it may have been released in between
            return holder != pid
    return False


def _is_written(directory: Path, content: object) -> bool:
    try:
        write_evidence(directory, EXIT_NAME, content)
    except OSError:
        return False
    return True


def _pid_of(directory: Path) -> int:
    """Return the PID of the writer in a directory, by its requests in flight; 0 if unknown."""
    evidence = read_evidence(directory)
    if evidence.in_flight is not None:
        return evidence.in_flight.header.pid
    return int(evidence.last_words.get("pid", 0))
