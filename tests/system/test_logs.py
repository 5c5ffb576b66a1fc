from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aqltelemetry import record, sync
from aqltelemetry.system.logs import guard_logger, log
from aqltelemetry.system.threads import WorkerThread

Counts = Callable[..., Counter[str]]


class FailingHandler(logging.Handler):
    """Records a value, as an application's handler may, and fails."""

    def emit(self, log_record: logging.LogRecord) -> None:
        record("logged", 1)
        raise RuntimeError("the log server is down")


class FailingFilter(logging.Filter):
    def filter(self, log_record: logging.LogRecord) -> bool:
        raise KeyError("no such field")


@pytest.fixture(params=["handler", "filter"])
def failing(request: pytest.FixtureRequest) -> Iterator[None]:
    handler, log_filter = FailingHandler(), FailingFilter()
    level = log.level
    log.setLevel(logging.DEBUG)
    if request.param == "handler":
        log.addHandler(handler)
    else:
        log.addFilter(log_filter)
    yield
    log.removeHandler(handler)
    log.removeFilter(log_filter)
    log.setLevel(level)


@pytest.mark.usefixtures("failing")
def test_recording_goes_on_where_the_applications_logging_fails(
    directory: Path, counts: Counts
) -> None:
    sync.start(directory)
    with sync.time_block("block"):
        pass
    sync.stop()
    assert counts() == {"block": 1}


@pytest.mark.usefixtures("failing")
def test_a_worker_thread_survives_a_failed_job_whose_log_line_fails_too() -> None:
    thread = WorkerThread("test")

    def job() -> None:
        raise ValueError("a failed job")

    thread.post(job)
    assert thread.submit(len, "ab").result(timeout=10) == 2
    thread.shutdown()


@pytest.mark.usefixtures("failing")
def test_what_a_handler_raises_is_shown_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.error("a message")
    shown = capsys.readouterr().err
    assert "--- Logging error ---" in shown
    assert "Message: 'a message'" in shown


@pytest.mark.usefixtures("failing")
def test_nothing_is_shown_if_logging_is_configured_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.error("a message")
    assert capsys.readouterr().err == ""


def test_a_logger_is_guarded_once() -> None:
    guarded = vars(log)["handle"]
    guard_logger()
    assert vars(log)["handle"] is guarded
