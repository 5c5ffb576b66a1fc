from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from aqltelemetry.threads import WorkerThread


@pytest.fixture
def worker() -> Iterator[WorkerThread]:
    worker = WorkerThread("aqltelemetry-test")
    yield worker
    worker.shutdown()


def test_jobs_are_done_in_order_on_one_thread(worker: WorkerThread) -> None:
    done: list[tuple[int, str]] = []
    for number in range(100):
        worker.post(lambda number=number: done.append((number, threading.current_thread().name)))  # type: ignore[misc]
    worker.submit(int).result(10)
    assert done == [(number, "aqltelemetry-test") for number in range(100)]


def test_a_result_or_an_exception_is_the_callers(worker: WorkerThread) -> None:
    assert worker.submit(int, "7").result(10) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        worker.submit(int, "x").result(10)
    assert worker.submit(int, "8").result(10) == 8


def test_a_job_that_raises_is_logged_and_the_next_is_done(
    worker: WorkerThread, caplog: pytest.LogCaptureFixture
) -> None:
    worker.post(lambda: 1 / 0)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert worker.submit(int).result(10) == 0
    assert "a background job of the telemetry failed" in caplog.text


def test_a_cancelled_job_is_not_done(worker: WorkerThread) -> None:
    gate: Future[None] = Future()
    done: list[int] = []
    worker.post(gate.result)
    cancelled = worker.submit(done.append, 1)
    cancelled.cancel()
    gate.set_result(None)
    worker.submit(int).result(10)
    assert done == []


def test_a_hung_job_holds_up_neither_shutdown_nor_exit() -> None:
    gate: Future[None] = Future()
    worker = WorkerThread("aqltelemetry-hung")
    worker.post(gate.result)
    worker.shutdown()
    (thread,) = (each for each in threading.enumerate() if each.name == "aqltelemetry-hung")
    assert thread.daemon
    gate.set_result(None)
    thread.join(10)
    assert not thread.is_alive()


def test_a_job_may_be_posted_from_a_collector_callback(worker: WorkerThread) -> None:
    """Wherever the collector runs, in the queue's own code too, posting does not wait."""
    posted: list[str] = []

    def callback(phase: str, info: dict[str, int]) -> None:
        worker.post(lambda: posted.append(phase))

    gc.callbacks.append(callback)
    try:
        for _ in range(50):
            gc.collect()
    finally:
        gc.callbacks.remove(callback)
    worker.submit(int).result(10)
    assert len(posted) >= 100


def test_a_job_that_is_done_is_forgotten(worker: WorkerThread) -> None:
    class Job:
        def __call__(self) -> None: ...

    job = Job()
    reference = weakref.ref(job)
    worker.post(job)
    del job
    worker.submit(int).result(10)
    worker.submit(int).result(10)
    assert reference() is None
