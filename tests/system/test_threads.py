from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import weakref
from concurrent.futures import Future
from pathlib import Path

import pytest

from aqltelemetry.system.threads import WorkerThread


def test_jobs_are_done_in_order_on_one_thread(thread: WorkerThread) -> None:
    done: list[tuple[int, str]] = []
    for number in range(100):
        thread.post(lambda number=number: done.append((number, threading.current_thread().name)))  # type: ignore[misc]
    thread.submit(int).result(10)
    assert done == [(number, "aqltelemetry-test") for number in range(100)]


def test_a_result_or_an_exception_is_the_callers(thread: WorkerThread) -> None:
    assert thread.submit(int, "7").result(10) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        thread.submit(int, "x").result(10)
    assert thread.submit(int, "8").result(10) == 8


def test_a_job_that_raises_is_logged_and_the_next_is_done(
    thread: WorkerThread, caplog: pytest.LogCaptureFixture
) -> None:
    thread.post(lambda: 1 / 0)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert thread.submit(int).result(10) == 0
    assert "a background job of the telemetry failed" in caplog.text


def test_a_cancelled_job_is_not_done(thread: WorkerThread) -> None:
    gate: Future[None] = Future()
    done: list[int] = []
    thread.post(gate.result)
    cancelled = thread.submit(done.append, 1)
    cancelled.cancel()
    gate.set_result(None)
    thread.submit(int).result(10)
    assert done == []


def test_a_hung_job_holds_up_neither_shutdown_nor_exit() -> None:
    gate: Future[None] = Future()
    hung = WorkerThread("aqltelemetry-hung")
    hung.post(gate.result)
    hung.shutdown()
    (left,) = (each for each in threading.enumerate() if each.name == "aqltelemetry-hung")
    assert left.daemon
    gate.set_result(None)
    left.join(10)
    assert not left.is_alive()


def test_a_job_may_be_posted_from_a_collector_callback(thread: WorkerThread) -> None:
    """Wherever the collector runs, in the queue's own code too, posting does not wait."""
    posted: list[str] = []

    def callback(phase: str, info: dict[str, int]) -> None:
        thread.post(lambda: posted.append(phase))

    gc.callbacks.append(callback)
    try:
        for _ in range(50):
            gc.collect()
    finally:
        gc.callbacks.remove(callback)
    thread.submit(int).result(10)
    assert len(posted) >= 100


def test_a_job_that_is_done_is_forgotten(thread: WorkerThread) -> None:
    class Job:
        def __call__(self) -> None: ...

    job = Job()
    reference = weakref.ref(job)
    thread.post(job)
    del job
    thread.submit(int).result(10)
    thread.submit(int).result(10)
    assert reference() is None


_NOTHING = """
import _thread, sys, threading, time
def never(*args, **options):
    raise AssertionError("what replaced the original was called")
def green(make=_thread.allocate_lock):
    return make()
"""
_LOCKS = "_thread.allocate_lock = threading._allocate_lock = threading.Lock = green\n"
_STARTS = "_thread.start_new_thread = threading._start_new_thread = never\n"
_RECORD = """
from aqltelemetry import sync
from aqltelemetry.errors import StateError
sync.start(sys.argv[1])
with sync.time_block("x"):
    pass
assert sync.stop().published
"""


@pytest.mark.parametrize("imported", ["", "import aqltelemetry.sync\n"], ids=["first", "later"])
@pytest.mark.parametrize("names", [_LOCKS, _STARTS, _LOCKS + _STARTS])
def test_where_an_unknown_library_has_replaced_threads_the_start_says_so_at_once(
    directory: Path, imported: str, names: str
) -> None:
    program = """
from aqltelemetry import sync
from aqltelemetry.errors import StateError
try:
    sync.start(sys.argv[1])
except StateError as exc:
    assert "has replaced the threads of Python" in str(exc)
else:
    raise AssertionError
"""
    _run(imported + _NOTHING + names + program, directory)


@pytest.mark.parametrize("imported", ["", "import aqltelemetry.sync\n"], ids=["first", "later"])
def test_a_replaced_sleep_is_not_used(directory: Path, imported: str) -> None:
    _run(imported + _NOTHING + "time.sleep = never\n" + _RECORD, directory)


def _run(program: str, directory: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", program, str(directory)]
    subprocess.run(command, check=True, timeout=60)
