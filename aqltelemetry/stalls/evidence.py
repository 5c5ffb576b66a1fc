"""What the watchdog and its probe see of a stall, before a cause is concluded from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

NO_CALL = -1
"""`Sample.call` of a thread that is blocked, but not in a system call, as by a page fault."""
RUNNING = -2
"""`Sample.call` of a thread that runs or waits for a processor."""
UNKNOWN_CALL = -3
"""`Sample.call` where the kernel does not show it."""


class Sample(NamedTuple):
    """What the kernel says of the event loop's thread at one moment; -1 is unknown.

    Attributes:
        at_ns: When it was taken, by the monotonic clock.
        cpu_ns: How long the thread has run since its start.
        delay_ns: How long it has waited for a processor since its start.
        major_faults: How many of its page faults had to read from a disk.
        overrun_ns: How much later than intended the watchdog took this sample.
        own_delay_ns: How long the watchdog waited for a processor since the sample before.
        argument: The first argument of the system call that the thread is in.
        call: The number of that system call, or NO_CALL, RUNNING or UNKNOWN_CALL.
        descriptor_kind: If the argument is an open descriptor, its kind, as `stat.S_IFMT` gives it.
        generation: The generation that is being collected, if `collecting_tid` is not 0.
        collecting_tid: The thread that collects garbage; 0 for none.
        other_tid: Another thread that runs or waits for a processor while the lock of the
            interpreter is held; 0 for none.
        state: The letter in the thread's `stat`, see proc(5).
        throttled_ns: How long the control group was kept from its processors since its start, by
            its limit; of all processors together.
    """

    at_ns: int
    cpu_ns: int
    delay_ns: int
    major_faults: int
    overrun_ns: int
    own_delay_ns: int
    argument: int
    call: int
    descriptor_kind: int
    generation: int
    collecting_tid: int
    other_tid: int
    state: str
    throttled_ns: int = -1


class Suspicion(NamedTuple):
    """A time in which the event loop did not answer, or a long request, by the monotonic clock.

    The loop was last seen free at `quiet_ns`, was asked at `begin_ns` and answered at `end_ns`.
    `before` was taken at `begin_ns`. `throttled_ns` is that of a sample, at the end.
    Of a request on a thread, `tid` is the thread, `request` its method and path, and `is_ended` is
    False if it went on at `end_ns`. It began at `begin_ns`, and `before` was taken later.
    """

    quiet_ns: int
    begin_ns: int
    end_ns: int
    before: Sample
    samples: Sequence[Sample]
    throttled_ns: int = -1
    tid: int = 0
    request: str = ""
    is_ended: bool = True

    @property
    def length_ns(self) -> int:
        """How long the event loop did not answer."""
        return self.end_ns - self.begin_ns


class LockWait(NamedTuple):
    """When the probe wanted the lock of the interpreter, and when it got it.

    `delay_ns` is how long the probe waited for a processor meanwhile.
    """

    wanted_ns: int
    got_ns: int
    delay_ns: int


class Line(NamedTuple):
    """A line of code: its file, its number, and the qualified name of its function."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number} ({self.function})"


class Look(NamedTuple):
    """What the probe saw in the event loop's thread at one moment.

    Attributes:
        at_ns: When it looked, by the monotonic clock.
        step: The number of the callback or step of a task that the loop ran, counted from 1
            since the begin of the suspicion; 0 between two of them.
        callback: The function of that step; "" if it has no frame.
        innermost: The line that ran; None if no line of Python did.
        user: The innermost line of the user's own code; None if there is none.
        task: The name of the task that ran; "" outside of tasks.
        coroutine: The qualified name of the task's coroutine.
        other: The line that another thread, which kept the GIL or collected, ran.
        route: The label of the request that the thread handled; "" if none or not known.
        blocks: The labels of the open blocks of the task, the outermost first.
        waits_on: What the thread waited on, such as a socket with its peer; "" if not known.
    """

    at_ns: int
    step: int
    callback: str = ""
    innermost: Line | None = None
    user: Line | None = None
    task: str = ""
    coroutine: str = ""
    other: Line | None = None
    route: str = ""
    blocks: Sequence[str] = ()
    waits_on: str = ""


class Evidence(NamedTuple):
    """Everything that is known of one suspected stall.

    `lock_addresses` are the first and the last address of the interpreter's state, which has
    its lock; None if they are not known. `is_native` is True if the watchdog sampled while the lock
    was held. `thread_names` are those of a request's begin, by the kernel's numbers of the threads.
    """

    suspicion: Suspicion
    waits: Sequence[LockWait]
    looks: Sequence[Look]
    lock_addresses: tuple[int, int] | None
    is_native: bool = True
    thread_names: Mapping[int, str] = MappingProxyType({})
