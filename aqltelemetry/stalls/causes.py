"""The causes of stalls: their names, which are labels in `stall.*.csv`, and what each means."""

from __future__ import annotations

from collections.abc import Mapping

PYTHON = "python code"
NATIVE = "native code"
LOCK_HELD = "native code holding the GIL"
BLOCKS_WITH_LOCK = "blocking call holding the GIL"
LOCK_ELSEWHERE = "GIL held by another thread"
GARBAGE = "garbage collection"
WAIT = "blocking wait"
IO = "blocking I/O"
STARVED = "no CPU"
THROTTLED = "throttled"
MANY_STEPS = "many small steps"
PAGE_FAULTS = "page faults"
SUSPENDED = "suspended"
UNKNOWN = "unknown"

CAUSES: Mapping[str, str] = {
    PYTHON: "Python code ran on the event loop's thread.",
    NATIVE: "Native code ran on the event loop's thread and let other threads have the GIL.",
    LOCK_HELD: "Native code ran on the event loop's thread and kept the GIL, such as a regular "
    "expression.",
    BLOCKS_WITH_LOCK: "Native code on the event loop's thread waited for something and kept the "
    "GIL meanwhile.",
    LOCK_ELSEWHERE: "The event loop's thread waited for the GIL, which other threads held.",
    GARBAGE: "The garbage collector ran.",
    WAIT: "The event loop's thread slept, or waited for a lock or a child process.",
    IO: "The event loop's thread waited for a socket, a pipe or a file.",
    STARVED: "The event loop's thread was ready to run and got no processor.",
    THROTTLED: "The control group of the process, such as its container, had used up its limit of "
    "processor time.",
    MANY_STEPS: "Many short callbacks or steps of tasks ran one after another.",
    PAGE_FAULTS: "The event loop's thread waited for memory pages that were read from a disk.",
    SUSPENDED: "All threads of the process stood still, such as after SIGSTOP.",
    UNKNOWN: "What was seen allows no conclusion.",
}
"""What each cause means, by the label under which a stall is recorded."""
