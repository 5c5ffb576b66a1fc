"""Watches the thread of an event loop and asks the loop to answer; the twin in Python.

`_watchdog.pyx` is the compiled twin: it has a native thread that works while the GIL is held.
This one works on the probe's thread instead, so it stands still while native code holds the GIL:
it sees such a stall afterwards, without its samples, and can't distinguish native code that
runs from a call that waits, or from another thread.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from aqltelemetry.recording.recorder import open_blocks
from aqltelemetry.stalls.evidence import RUNNING, UNKNOWN_CALL, Sample, Suspicion
from aqltelemetry.stalls.naming.requests import argument_of
from aqltelemetry.stalls.probe import Seen, task_names
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns, pause

_EPOLL_CALLS = (232, 281, 441, 22)
_SUSPENDED_NS = 50_000_000
_MAX_SAMPLES = 1024
_MOST_REQUESTS = 20
_READ_BYTES = 512
_SMALL = 0.3
_MOST = 0.5
_STOOD_STILL_NS = 15_000_000
_MAJOR_FAULTS = 9
_DESCRIPTORS = ("_syscall_fd", "_schedstat_fd", "_stat_fd", "_own_schedstat_fd", "_throttled_fd")


class Watchdog:
    """Watches the thread that makes it, which runs `loop`.

    Args:
        loop: The event loop; it calls `answer` when `ping_fd` can be read.
        tick_ns: How often to look whether the loop is busy and, if so, to ask it to answer.
        late_ns: The time without an answer after which a stall is suspected, and sampled.
        period_ns: The time between two samples.
        threshold_ns: The time without an answer above which a suspicion is a stall.
    """

    is_native = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tick_ns: int,
        late_ns: int,
        period_ns: int,
        threshold_ns: int,
    ) -> None:
        self.depth = 0
        self.wakeups = self.pings = self.missed = 0
        self.is_suspecting = False
        self._loop = loop
        self._tick_ns, self._late_ns = tick_ns, late_ns
        self._period_ns, self._threshold_ns = period_ns, threshold_ns
        self._ident = threading.get_ident()
        tid = threading.get_native_id()
        self.ping_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._syscall_fd = _open(f"/proc/self/task/{tid}/syscall")
        self._schedstat_fd = _open(f"/proc/self/task/{tid}/schedstat")
        self._stat_fd = _open(f"/proc/self/task/{tid}/stat")
        self._own_schedstat_fd = self._throttled_fd = -1
        self._selector_fd = -1
        self._queue: Sequence[object] | None = None
        self.is_stopping = False
        self._answered_ns = 0
        self._collecting_tid = self._generation = 0
        self._collection = 0, 0  # the begin and the end of the last one
        self._pinged: Sample | None = None
        self._quiet_ns = monotonic_ns()
        self._sampled_ns = 0
        self._samples: list[Sample] = []
        self._ended: Suspicion | None = None

    @property
    def reads(self) -> dict[str, bool]:
        """Which of the kernel's files can be read."""
        return {"syscall": self._syscall_fd >= 0, "schedstat": self._schedstat_fd >= 0}

    def start(self) -> None:
        """Do nothing: the probe's thread does the work."""

    def know_loop(self, selector_fd: int, queue: Sequence[object] | None) -> None:
        """Set the descriptor that the loop waits on, and the queue of its callbacks."""
        self._selector_fd = selector_fd
        self._queue = queue

    def know_limit(self, throttled_fd: int) -> None:
        """Set the file that says how long the control group was throttled; it is closed here."""
        self._throttled_fd = throttled_fd

    def lock_addresses(self) -> tuple[int, int] | None:
        """Return None: where the GIL lies is not known here."""
        return None

    def answer(self) -> None:
        """Answer that the event loop runs."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.ping_fd)
        self._answered_ns = monotonic_ns()
        if not self.depth:
            self.depth = len(_frames(sys._getframe(1)))  # noqa: SLF001 - the documented way

    def collecting(self, phase: str, info: dict[str, int]) -> None:
        """Note the begin or the end of a garbage collection; a callback of the collector."""
        if phase == "start":
            self._generation = info["generation"]
            self._collection = monotonic_ns(), 0
            self._collecting_tid = threading.get_native_id()
        else:
            self._collection = self._collection[0], monotonic_ns()
            self._collecting_tid = 0

    def wait(self) -> tuple[int, int, int] | None:
        """Wait for a suspected stall; return the parts of a `LockWait`, or None if stopped."""
        if self._own_schedstat_fd < 0:
            tid = threading.get_native_id()
            self._own_schedstat_fd = _open(f"/proc/self/task/{tid}/schedstat")
        while not self.is_stopping:
            own_ns = _times(self._own_schedstat_fd)[1]
            before = self._times_now()
            due_ns = monotonic_ns() + self._tick_ns
            pause(self._tick_ns / NS_PER_S)
            self.wakeups += 1
            if self._tick(due_ns, before, own_ns):
                delay_ns = max(_times(self._own_schedstat_fd)[1] - own_ns, 0)
                return due_ns, monotonic_ns(), delay_ns
        self._close()
        os.close(self.ping_fd)
        return None

    def _tick(self, due_ns: int, before: Sample, own_ns: int) -> bool:
        """Look at the loop, and ask it to answer; return whether a stall is suspected."""
        now_ns = monotonic_ns()
        if self._pinged is not None:
            if self._answered_ns < self._pinged.at_ns:
                if now_ns - self._pinged.at_ns < self._late_ns:
                    return False
                self._suspect(self._pinged)
                self._add_late_sample(due_ns, own_ns)
                return True
            self._quiet_ns = self._answered_ns
            self._pinged = None
        elif now_ns - due_ns > max(_SUSPENDED_NS, self._threshold_ns):
            self._suspect(before._replace(at_ns=due_ns))
            self._add_late_sample(due_ns, own_ns)
            self._end(now_ns)
            return True
        if self._is_idle():
            self._quiet_ns = now_ns
        else:
            self.pings += 1
            self._pinged = self._sample(0)
            os.eventfd_write(self.ping_fd, 1)
        return False

    def probe(self, pause_ns: int) -> tuple[int, int, int]:
        """Wait for a moment and then for the GIL; return the parts of a `LockWait`."""
        own_ns = _times(self._own_schedstat_fd)[1]
        wanted_ns = monotonic_ns() + pause_ns
        pause(pause_ns / NS_PER_S)
        got_ns = monotonic_ns()
        delay_ns = max(_times(self._own_schedstat_fd)[1] - own_ns, 0)
        if self._pinged is not None and self._answered_ns >= self._pinged.at_ns:
            self._end(self._answered_ns)
        elif self._add_late_sample(wanted_ns, own_ns):
            pass
        elif got_ns - self._sampled_ns >= self._period_ns and len(self._samples) < _MAX_SAMPLES:
            self._sampled_ns = got_ns
            self._samples.append(self._sample(delay_ns))
        return wanted_ns, got_ns, delay_ns

    def look(self) -> Seen:
        """Return what the loop's thread does."""
        frame = sys._current_frames().get(self._ident)  # noqa: SLF001 - as above
        frames, requests = _frames(frame), _requests(frame)
        task = asyncio.current_task(self._loop)
        names = ("", "") if task is None else task_names(task)
        following = id(self._queue[0]) if self._queue else 0
        number = 0 if task is None else id(task)
        blocks = open_blocks(self._ident, number)
        return Seen(frames, self.depth, following, number, *names, (), blocks, requests)

    def waited_call(self) -> str:
        """Return what the kernel says of the system call of the watched thread."""
        # Each read lets the GIL go, so it is read only where a call was seen.
        is_in_call = bool(self._samples) and self._samples[-1].call >= 0
        return _read(self._syscall_fd) if is_in_call else ""

    def peer(self, fd: int) -> bytes:  # noqa: ARG002 - as the compiled twin
        """Return nothing: Python has no call for the peer of any descriptor."""
        return b""

    def ignore(self) -> None:
        """Drop the suspected stall."""
        self.is_suspecting = False
        self._pinged = None
        self.depth = 0

    def take(self) -> Suspicion | None:
        """Return a suspected stall that was one and has ended, once."""
        found, self._ended = self._ended, None
        return found

    def stop(self) -> None:
        """End the wait of the probe, at its next tick."""
        self.is_stopping = True
        self.is_suspecting = False

    def abandon_in_child(self) -> None:
        """Close the descriptors that a forked child has of its parent's watchdog."""
        self._close()

    def _suspect(self, before: Sample) -> None:
        self.is_suspecting = not self.is_stopping
        self._pinged = before
        self._samples = []
        self._sampled_ns = 0

    def _end(self, end_ns: int) -> None:
        self.is_suspecting = False
        pinged, self._pinged = self._pinged, None
        if pinged is not None and end_ns - pinged.at_ns >= self._threshold_ns and self._samples:
            throttled_ns = _throttled(self._throttled_fd)
            self._ended = Suspicion(
                self._quiet_ns, pinged.at_ns, end_ns, pinged, self._samples, throttled_ns
            )
        self._quiet_ns = end_ns

    def _is_idle(self) -> bool:
        call, argument = _call(self._syscall_fd)
        return self._selector_fd >= 0 and call in _EPOLL_CALLS and argument == self._selector_fd

    def _times_now(self) -> Sample:
        cpu_ns, delay_ns = _times(self._schedstat_fd)
        return Sample(monotonic_ns(), cpu_ns, delay_ns, -1, 0, 0, 0, UNKNOWN_CALL, 0, 0, 0, 0, "?")

    def _sample(self, own_delay_ns: int) -> Sample:
        state, major_faults = _state(self._stat_fd)
        call, argument = _call(self._syscall_fd)
        return self._times_now()._replace(
            major_faults=major_faults,
            own_delay_ns=own_delay_ns,
            argument=argument,
            call=call,
            descriptor_kind=_kind(argument) if call >= 0 else 0,
            generation=self._generation,
            collecting_tid=self._collecting_tid,
            state=state,
            throttled_ns=_throttled(self._throttled_fd),
        )

    def _add_late_sample(self, due_ns: int, own_ns: int) -> bool:
        """If this thread stood still since `due_ns`, add what can be said of that time."""
        now = self._times_now()
        late_ns = now.at_ns - due_ns
        before = self._samples[-1] if self._samples else self._pinged
        if late_ns < _STOOD_STILL_NS or before is None or len(self._samples) >= _MAX_SAMPLES:
            return False
        begin_ns, end_ns = self._collection
        collected_ns = min(end_ns, now.at_ns) - max(begin_ns, due_ns)
        has_collected = collected_ns > _MOST * late_ns
        is_on = now.cpu_ns >= 0 and now.cpu_ns - before.cpu_ns > _SMALL * late_ns
        is_on = is_on and (has_collected or collected_ns <= 0)
        self._sampled_ns = now.at_ns
        self._samples.append(
            # Without `overrun_ns`: this thread may have been suspended or kept from the GIL.
            now._replace(
                own_delay_ns=max(_times(self._own_schedstat_fd)[1] - own_ns, 0),
                generation=self._generation,
                collecting_tid=threading.get_native_id() if has_collected else 0,
                state="R" if is_on else "?",
                call=RUNNING if is_on else UNKNOWN_CALL,
            )
        )
        return True

    def _close(self) -> None:
        for name in _DESCRIPTORS:
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _read(fd: int) -> str:
    try:
        return os.pread(fd, _READ_BYTES, 0).decode("ascii", "replace") if fd >= 0 else ""
    except OSError:
        return ""


def _times(fd: int) -> tuple[int, int]:
    parts = _read(fd).split()
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 else (-1, -1)


def _throttled(fd: int) -> int:
    found = dict(line.split(" ", 1) for line in _read(fd).splitlines() if " " in line)
    if "throttled_usec" in found:
        return int(found["throttled_usec"]) * 1000
    return int(found.get("throttled_time", -1))


def _state(fd: int) -> tuple[str, int]:
    parts = _read(fd).rpartition(")")[2].split()
    return (parts[0], int(parts[_MAJOR_FAULTS])) if len(parts) > _MAJOR_FAULTS else ("?", -1)


def _call(fd: int) -> tuple[int, int]:
    parts = _read(fd).split()
    if not parts:
        return UNKNOWN_CALL, 0
    if parts[0] == "running":
        return RUNNING, 0
    return int(parts[0]), int(parts[1], 16) if int(parts[0]) >= 0 else 0


def _kind(fd: int) -> int:
    try:
        return os.fstat(fd).st_mode & 0o170000
    except (OSError, OverflowError):
        return 0


def _frames(frame: FrameType | None) -> list[Any]:
    found = []
    while frame is not None:
        found.append((frame.f_code, frame.f_lineno, id(frame)))
        frame = frame.f_back
    return found


def _requests(frame: FrameType | None) -> list[tuple[str, object]]:
    """Return the arguments on a stack that may be requests, the outermost first."""
    found: list[tuple[str, object]] = []
    while frame is not None:
        name = argument_of(frame.f_code)
        value = frame.f_locals.get(name) if name else None
        if value is not None and (not found or found[-1][1] is not value):
            found = [*found[: _MOST_REQUESTS - 1], (name, value)]
        frame = frame.f_back
    return found[::-1]
