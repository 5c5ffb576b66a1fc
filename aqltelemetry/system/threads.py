"""Daemon threads that do the recording's work and never delay the process's exit.

They are real threads also where gevent or eventlet has replaced threads by greenlets, so
nothing here uses the functions that such a library replaces.
"""

from __future__ import annotations

import os
import threading
from _queue import Empty, SimpleQueue
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from typing import ParamSpec, Self, TypeVar, overload

from aqltelemetry.errors import StateError
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.system.logs import log
from aqltelemetry.system.unpatched import (
    are_greenlets,
    let_greenlets_run,
    may_switch,
    native,
    replacement,
)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_JOIN_S = 0.1
_POLL_S = 0.001


class _Started:
    """How threads are started: `natively` if greenlets may replace threads later."""

    natively = False


def start_natively() -> None:
    """Start all threads from now on without registering them in `threading`.

    When a registered thread ends, gevent and eventlet look for what they know of it.
    """
    _Started.natively = True


_own: dict[int, int] = {}  # the PID for each thread: a forked child has none of the threads


def is_own(ident: int) -> bool:
    """Return whether a thread of this process, by its identifier, was started by `start_thread`."""
    return _own.get(ident) == os.getpid()


def start_thread(work: Callable[[], None], name: str) -> None:
    """Start a daemon thread; raises StateError where only replaced threads are available."""

    def run() -> None:
        ident = native("_thread", "get_ident")()
        _own[ident] = os.getpid()
        try:
            work()
        finally:
            _own.pop(ident, None)

    _check_native()
    if _Started.natively or are_greenlets():
        native("_thread", "start_new_thread")(run, ())
    else:
        threading.Thread(target=run, name=name, daemon=True).start()


def _check_native() -> None:
    """Raise StateError if an unknown library has replaced threads or locks.

    Such a thread may never run, or may delay those of the application.
    """
    found = None if are_greenlets() else replacement()
    if found is not None:
        where = getattr(found, "__module__", None) or type(found).__module__
        msg = f"{where} has replaced the threads of Python, of which recording needs real ones"
        raise StateError(msg)


class _Waiting:
    """How to wait for other threads: `alone` means without running other greenlets."""

    alone = False


@contextmanager
def no_greenlet_goes_on() -> Iterator[None]:
    """Run no other greenlets while waiting, at an exit: their work would not be recorded."""
    _Waiting.alone = True
    try:
        yield
    finally:
        _Waiting.alone = False


@overload
def take(queue: SimpleQueue[_R]) -> _R: ...


@overload
def take(queue: SimpleQueue[_R], limit_s: float) -> _R | None: ...


def take(queue: SimpleQueue[_R], limit_s: float | None = None) -> _R | None:
    """Return the next item that another thread puts into a queue.

    With a limit, in seconds, return None if there is none by then.
    """
    until_ns = None if limit_s is None else monotonic_ns() + int(limit_s * NS_PER_S)
    while not _Waiting.alone and _shares_thread():
        with suppress(Empty):
            return queue.get_nowait()
        if until_ns is not None and monotonic_ns() >= until_ns:
            return None
        let_greenlets_run(_POLL_S)
    try:
        return queue.get(timeout=limit_s)
    except Empty:
        return None


def take_within(queue: SimpleQueue[_R], limit_s: float) -> _R | None:
    """Return the next item, or None after `limit_s` seconds; ignore what signal handlers raise."""
    until_ns = monotonic_ns() + int(limit_s * NS_PER_S)
    while monotonic_ns() < until_ns:
        with suppress(BaseException):
            try:
                return queue.get_nowait()
            except Empty:
                let_greenlets_run(_POLL_S)
    return None


def _shares_thread() -> bool:
    """Return whether other greenlets can run on this thread while it waits."""
    return are_greenlets() and not is_own(native("_thread", "get_ident")()) and may_switch()


class Lock:
    """A lock for threads and greenlets that may be held while waiting."""

    def __init__(self) -> None:
        self._lock = native("_thread", "allocate_lock")()

    def __enter__(self) -> Self:
        while _shares_thread():
            if self._lock.acquire(blocking=False):
                return self
            let_greenlets_run(_POLL_S)
        self._lock.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


class NativeFuture(Future[_R]):
    """A future whose result is set by a real thread."""

    def __init__(self) -> None:
        super().__init__()
        # The condition of the base class may be one for greenlets, or become one: eventlet
        # replaces the RLocks that it finds, also of conditions that are in use.
        self._condition = threading.Condition(native("_thread", "allocate_lock")())


class WorkerThread(Executor):
    """Runs jobs in order on one daemon thread.

    Unlike the standard library's executor, `post` may be called in a garbage collector
    callback or a signal handler, where taking a lock could deadlock; the interpreter does not
    wait for it at exit, where a hung disk would block the exit.
    """

    def __init__(
        self, name: str, meanwhile: Callable[[], object] | None = None, every_s: float | None = None
    ) -> None:
        """Start the thread; while idle it calls `meanwhile` every `every_s` seconds."""
        self._meanwhile = meanwhile
        self._every_s = every_s
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._ended: SimpleQueue[None] = SimpleQueue()
        start_thread(self._run, name)

    def post(self, job: Callable[[], object]) -> None:
        """Add a job whose result is not needed."""
        self._jobs.put(job)

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        """Add a call; return the future of its result."""
        future: Future[_R] = NativeFuture()

        def job() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as exc:  # noqa: BLE001 - the caller gets it
                    future.set_exception(exc)

        self._jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread after its jobs; wait for at most 0.1 s."""
        del cancel_futures
        self._jobs.put(None)
        if wait:
            try:
                self._ended.get(timeout=_JOIN_S)
            except Empty:
                return
            self._ended.put(None)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001 - the thread outlives its jobs
                log.exception("a background job of the telemetry failed")
            del job
        self._ended.put(None)

    def _next(self) -> Callable[[], object] | None:
        try:
            return self._jobs.get(timeout=self._every_s)
        except Empty:
            return self._meanwhile
