"""A thread of our own to work on, one job after the other, that never delays an exit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logging.getLogger("aqltelemetry")


def start_thread(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that does not keep the interpreter from exiting."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


class WorkerThread(Executor):
    """Runs jobs in order on one daemon thread.

    Unlike the standard library's executor it may be handed jobs by `post` from
    a garbage collector callback or a signal handler, where taking a lock could
    wait for itself; it is not drained at interpreter exit, where a hung disk
    would hang the exit; and a saturated application can't make it wait.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = start_thread(self._run, name)

    def post(self, job: Callable[[], object]) -> None:
        """Have a job done some time, without a result."""
        self._jobs.put(job)

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        """Have a call made some time; its result is in the future."""
        future: Future[_R] = Future()

        def job() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as exc:  # noqa: BLE001 - it belongs to the caller
                    future.set_exception(exc)

        self._jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread after the jobs it has; wait for that no more than a moment."""
        del cancel_futures
        self._jobs.put(None)
        if wait:
            self._thread.join(timeout=0.1)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001 - the thread outlives its jobs
                _log.exception("a background job of the telemetry failed")
            del job
