"""The process that archives what is recorded: it is shared, and ends with the service."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from aqltelemetry import Monitor, TelemetryDB
from aqltelemetry.archive.child import LOCK_NAME
from aqltelemetry.runtime import shipping_process as module
from aqltelemetry.runtime.shipping_process import archiving_process
from aqltelemetry.shipping.ledger_lock import is_locked
from aqltelemetry.sinks.archives import is_archive
from segments import observations, record
from servers import wait_until

_SERVICE = """
import sys, time
from aqltelemetry import sync
sync.start(sys.argv[1], compact_after_s="1m", with_runtime=False, keep_s="99999d")
print("recording", flush=True)
time.sleep(300)
"""


def _service(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SERVICE, str(directory)]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    assert service.stdout.readline() == "recording\n"
    return service


def _children(service: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(service.pid).children()


def _has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.system
def test_the_services_of_a_directory_share_one_that_ends_with_them(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    expected = observations(TelemetryDB(directory))
    lock = directory / LOCK_NAME.removesuffix(".lock")
    with _service(directory) as first:
        try:
            wait_until(lambda: not list(directory.glob("*.csv")), "archives")
            (child,) = _children(first)
            assert is_locked(str(lock))
            command = [sys.executable, "-m", "aqltelemetry.archive.child", str(directory)]
            environ = {"AQLTELEMETRY_COMPACT_AFTER_S": "60"}
            other = subprocess.run(
                command, check=False, env=environ, stdin=subprocess.PIPE, timeout=60
            )
            assert other.returncode == 0
            assert child.nice() == 19
        finally:
            first.kill()
    wait_until(lambda: _has_ended(child), "the process ends")
    # Its threads may outlive the state that is shown of it.
    wait_until(lambda: not is_locked(str(lock)), "the lock is free")
    assert observations(TelemetryDB(directory)) == expected
    assert len([path for path in directory.iterdir() if is_archive(path.name)]) == 4


async def test_it_is_off_unless_it_is_wanted(directory: Path) -> None:
    async with Monitor(directory):
        pass
    assert not (directory / LOCK_NAME).exists()


def test_a_missing_extra_is_logged(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        module, "find_spec", lambda name: None if name == "pyarrow" else find_spec(name)
    )
    assert archiving_process(str(directory), 60.0) is None
    assert "pip install aqltelemetry[pyarrow]" in caplog.text
