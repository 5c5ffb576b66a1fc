"""Looks at the event loop's thread from a Python thread, while a stall is suspected."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, NamedTuple, Protocol

from aqltelemetry.stalls.evidence import Evidence, LockWait, Look, Suspicion
from aqltelemetry.stalls.naming.requests import NamedRequests, joined
from aqltelemetry.stalls.naming.waited_on import WaitedOn
from aqltelemetry.stalls.steps import Frame, StepCounter
from aqltelemetry.stalls.user_code import innermost, innermost_of_user
from aqltelemetry.system.logs import log

_MS = 1_000_000
_FIRST_PAUSE_NS = 1 * _MS
_LONGEST_PAUSE_NS = 50 * _MS
_PART = 200
_DEPTH = 100
_MAX_LOOKS = 2000
_MOST_BLOCKS = 20
_MOST_CHARS = 200


class Seen(NamedTuple):
    """What `Watchdog.look` returns of the loop's thread.

    `frames` are innermost first; `depth` counts those that the loop itself has; `following`,
    `task` and `task_name` are as in `StepCounter` and `Look`; `others` are the frames of another
    thread that kept the GIL; `blocks` are as in `Look`; `arguments` are those of
    functions on the stack that may be requests, the outermost first, see `requests`.
    """

    frames: Sequence[Frame]
    depth: int
    following: int
    task: int
    task_name: str
    coroutine: str
    others: Sequence[Frame] = ()
    blocks: Sequence[str] = ()
    arguments: Sequence[tuple[str, object]] = ()


class AnyWatchdog(Protocol):
    """What both kinds of watchdog do for the probe."""

    is_native: bool

    @property
    def is_suspecting(self) -> bool:
        """Whether a suspected stall goes on."""
        ...

    def wait(self) -> tuple[int, int, int] | None:
        """Wait for a suspected stall and then for the GIL; return the parts of a `LockWait`.

        None once the watchdog has been stopped.
        """
        ...

    def probe(self, pause_ns: int) -> tuple[int, int, int]:
        """Wait for a moment and then for the GIL; return the same."""
        ...

    def look(self) -> Seen:
        """Return what the loop's thread does."""
        ...

    def waited_call(self) -> str:
        """Return the line of the kernel about the system call of the watched thread."""
        ...

    def peer(self, fd: int, /) -> bytes:
        """Return the address of the peer of a socket as getpeername(2) does; empty if none."""
        ...

    def ignore(self) -> None:
        """Drop the suspected stall."""
        ...

    def take(self) -> Suspicion | None:
        """Return a suspected stall that was one and has ended, once."""
        ...

    def lock_addresses(self) -> tuple[int, int] | None:
        """Return the first and the last address of the interpreter's state."""
        ...


class Probe:
    """Waits on a thread of its own for suspected stalls, and passes on the evidence of each.

    `loop` is the event loop that is watched; None if requests on threads are. `conclude` is
    called on that thread, after the stall.
    """

    def __init__(
        self,
        watchdog: AnyWatchdog,
        loop: asyncio.AbstractEventLoop | None,
        conclude: Callable[[Evidence], None],
    ) -> None:
        self._watchdog = watchdog
        self._loop = loop
        self._conclude = conclude
        self._waited = WaitedOn(watchdog.waited_call, watchdog.peer)

    def run(self) -> None:
        """Work until the watchdog is stopped."""
        while (wait := self._watchdog.wait()) is not None:
            try:
                self._follow(LockWait(*wait))
            except Exception as exc:  # noqa: BLE001 - the next stall may be seen
                self._watchdog.ignore()
                log.error("a stall of the event loop could not be examined: %r", exc)

    def _follow(self, wait: LockWait) -> None:
        """Look at one suspected stall until it ends."""
        watchdog = self._watchdog
        # The thread of a request may end with it.
        names = thread_names() if self._loop is None else {}
        waits = [wait]
        looks: list[Look] = []
        steps: StepCounter | None = None
        requests = NamedRequests()
        try:
            while watchdog.is_suspecting:
                seen = watchdog.look()
                if self._loop is not None and not self._loop.is_running():
                    watchdog.ignore()
                    return
                names = names or (thread_names() if seen.others else {})
                steps = steps or StepCounter(seen.depth)
                looks.append(self._completed(look_at(wait.got_ns, seen, steps), seen, requests))
                elapsed_ns = wait.got_ns - waits[0].wanted_ns
                pause_ns = min(max(_FIRST_PAUSE_NS, elapsed_ns // _PART), _LONGEST_PAUSE_NS)
                wait = LockWait(*watchdog.probe(pause_ns))
                waits.append(wait)
                if len(looks) > _MAX_LOOKS:
                    del looks[1::2]
                    del waits[1::2]
        finally:
            requests.give_back(self._loop)
        suspicion = watchdog.take()
        if suspicion is not None:
            in_time = [look for look in looks if look.at_ns <= suspicion.end_ns]
            addresses = watchdog.lock_addresses()
            self._conclude(
                Evidence(suspicion, waits, in_time, addresses, watchdog.is_native, names)
            )

    def _completed(self, look: Look, seen: Seen, requests: NamedRequests) -> Look:
        """Add the request that is handled, and what is waited on."""
        codes = [code for code, *_ in seen.frames[:2]]
        return look._replace(
            route=requests.name(seen.arguments),
            waits_on=joined(codes, seen.arguments) or self._waited.look(),
        )


def look_at(at_ns: int, seen: Seen, steps: StepCounter) -> Look:
    """Return what was seen at a time, in names and numbers."""
    number, callback = steps.count(seen.frames, seen.task, seen.following)
    inner = max(len(seen.frames) - max(seen.depth, 0), 0)
    lines: list[tuple[CodeType, int | None]] = [(code, line) for code, line, _ in seen.frames]
    others: list[tuple[CodeType, int | None]] = [(code, line) for code, line, _ in seen.others]
    return Look(
        at_ns,
        number,
        callback,
        innermost(lines[:inner]),
        innermost_of_user(lines[:inner]),
        seen.task_name,
        seen.coroutine,
        innermost_of_user(others) or innermost(others),
        blocks=tuple(str(label)[:_MOST_CHARS] for label in seen.blocks[:_MOST_BLOCKS]),
    )


def thread_names() -> dict[int, str]:
    """Return the names of the threads that run, by the numbers that the kernel gives them."""
    return {
        each.native_id: each.name for each in threading.enumerate() if each.native_id is not None
    }


def task_names(task: Any) -> tuple[str, str]:
    """Return the name of a task and of its coroutine."""
    coroutine = getattr(task, "get_coro", lambda: None)()
    name = getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__
    return str(task.get_name()), str(name)
