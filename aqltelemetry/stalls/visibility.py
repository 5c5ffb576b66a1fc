"""What the watchdog of stalls can see in this Python and on this machine, in words."""

from __future__ import annotations

import os

from aqltelemetry.stalls.system_calls import call_names
from aqltelemetry.system.extensions import load
from aqltelemetry.system.unpatched import are_greenlets

_FILES = {
    "syscall": "what a blocked call waits for",
    "schedstat": "a thread that gets no processor",
    "stat": "the state of a thread",
}


def limits(task: str = "/proc/self/task") -> list[str]:
    """Return what can't be seen of a stall, as clauses; empty if nothing is missing."""
    found = []
    if are_greenlets():
        found.append("no event loop is watched under gevent or eventlet")
    if load("aqltelemetry.stalls.watchdog") is None:
        found.append(
            "without the compiled modules, calls that hold the GIL are seen after their end, and "
            "not what they wait for; requests on threads are not watched"
        )
    if not call_names():
        found.append("the numbers of this machine's system calls are not known")
    thread = os.path.join(task, str(os.getpid()))
    found += [
        f"without {thread}/{name}, {what} is not seen"
        for name, what in _FILES.items()
        if not os.access(os.path.join(thread, name), os.R_OK)
    ]
    return found
