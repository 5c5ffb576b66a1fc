"""The process that makes dumps, started by a recorded service, and the signal that asks for one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.dumps import kept
from aqltelemetry.journal.dir_lock import is_alive
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.runtime.dump_process import handle_signal
from aqltelemetry.settings import settings
from servers import wait_until

_SERVICE = """
import signal, sys
from aqltelemetry import sync
sync.start(sys.argv[1], with_dump="killed; SIGUSR2", keep_dump_bytes="2m")
with sync.time_block("work"):
    pass
print("recording", flush=True)
while True:
    signal.pause()
"""


@contextmanager
def _service(directory: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _SERVICE, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline() == "recording\n"
            yield service
        finally:
            service.kill()


def _watchers(service: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(service.pid).children()


@pytest.mark.system
def test_a_signal_and_the_death_of_the_service_make_dumps(directory: Path) -> None:
    def names() -> list[str]:
        return [Path(each.path).name.partition("-")[2] for each in kept.find(str(directory))]

    with _service(directory) as service:
        wait_until(lambda: is_alive(directory / "dumps"), "the process watches")
        (watcher,) = _watchers(service)
        # Its own request from before the start does not count.
        wait_until(lambda: bool(_asked(directory, service, names)), "a dump of the signal")
        service.kill()
        death = f"killed-process-{service.pid}"
        wait_until(lambda: any(death in name for name in names()), "a dump of the death")
    wait_until(lambda: not watcher.is_running(), "the process ends")
    for each in kept.find(str(directory)):
        labels = set(TelemetryDB(each.path).duration().data()["Label"])
        assert labels == {"work"}


def _asked(directory: Path, service: subprocess.Popen[str], names: object) -> list[str]:
    """Send the signal; return the dumps that it made."""
    service.send_signal(signal.SIGUSR2)
    assert callable(names)
    return [name for name in names() if name == "asked-by-SIGUSR2"]


def test_the_handler_of_a_program_is_left_as_it_is(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.signal(signal.SIGUSR2, _ignore)
    try:
        handle_signal(settings(directory, {"with_dump": "SIGUSR2"}))
        assert signal.getsignal(signal.SIGUSR2) is _ignore
        assert "the program handles it" in caplog.text
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_the_signal_requests_a_dump_and_is_handled_only_if_it_is_a_condition(
    directory: Path,
) -> None:
    directory.mkdir()
    before = signal.getsignal(signal.SIGUSR2)
    try:
        handle_signal(settings(directory, {"with_dump": "max SIGUSR2 > 1s"}))
        assert signal.getsignal(signal.SIGUSR2) is before
        handle_signal(settings(directory, {"with_dump": "SIGUSR2"}))
        os.kill(os.getpid(), signal.SIGUSR2)
        wait_until(ControlFiles(str(directory)).take_dump_request, "a request")
    finally:
        signal.signal(signal.SIGUSR2, before)


def _ignore(*_: object) -> None:
    pass
