"""Lowers the priority of a process that only looks on."""

from __future__ import annotations

import os
from contextlib import suppress

_NICENESS = 19


def go_last() -> None:
    """Let all other processes of this machine go first, as far as the system permits.

    On Linux the process does not interrupt others when it wakes up, either (`SCHED_BATCH`).
    """
    os.nice(_NICENESS)
    with suppress(AttributeError, OSError):  # another system, or a container that forbids it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
