"""The process that ships what is recorded: it is shared, and never holds up the service."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from aqltelemetry import Monitor, time_block
from aqltelemetry.errors import LedgerError
from aqltelemetry.runtime import helper_process, shipping_process
from aqltelemetry.runtime.shipping_process import shipping_process as process_for
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.ledger_lock import is_locked, ledger_path
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.target import Target
from proxy import SWALLOW, proxy
from servers import wait_until

_SERVICE = """
import os, sys, time
from aqltelemetry import sync
sync.start(sys.argv[1], ship_to=sys.argv[2], max_file_age_s=0.1, flush_interval_s=0.1)
with sync.time_block("work"):
    pass
print("recording", flush=True)
time.sleep(300)
"""


def _path(directory: Path, url: str) -> str:
    return ledger_path(str(directory / ".ship"), Target(url).identity)


def _children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if _ships(each)]


def _ships(process: psutil.Process) -> bool:
    try:
        return "aqltelemetry.shipping.child" in process.cmdline()
    except psutil.NoSuchProcess:  # it has just ended
        return False


@pytest.mark.system
async def test_what_is_recorded_is_shipped_while_the_recording_goes_on(
    directory: Path, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/there"

    def shipped() -> int:
        try:
            with LedgerReader(_path(directory, url)) as ledger:
                return ledger.totals().rows
        except (LedgerError, sqlite3.Error):  # it is just being made
            return 0

    async with Monitor(directory, ship_to=url, max_file_age_s=0.1, flush_interval_s=0.1) as monitor:
        with time_block("work"):
            pass
        await monitor.flush()
        while not shipped():
            await asyncio.sleep(0.05)
    wait_until(lambda: not _children(), "the process ends")
    assert [*(tmp_path / "there").rglob("*.parquet")]


@pytest.mark.system
async def test_a_stop_does_not_wait_for_a_destination_that_hangs(
    directory: Path,
) -> None:
    with proxy(9) as hanging:
        hanging.mode = SWALLOW
        monitor = Monitor(directory, ship_to=f"postgresql://127.0.0.1:{hanging.port}/x")
        await monitor.start()
        wait_until(lambda: bool(_children()), "a process")
        await monitor.stop()
        assert _children()  # still connecting
        wait_until(lambda: not _children(), "the process ends")


@pytest.mark.system
def test_the_process_ends_with_a_service_that_is_killed_and_hides_the_url(
    directory: Path, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/there"
    command = [sys.executable, "-c", _SERVICE, str(directory), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline() == "recording\n"
            wait_until(lambda: bool(psutil.Process(service.pid).children()), "a process")
            (child,) = psutil.Process(service.pid).children()
            wait_until(lambda: is_locked(_path(directory, url)), "the process ships")
            assert url not in " ".join(child.cmdline())
        finally:
            service.kill()
    wait_until(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE,
        "the process ends",
    )


def test_no_process_is_started_while_another_ships(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://db/there"
    started: list[str] = []
    monkeypatch.setattr(helper_process, "_AGAIN_S", 0.0)
    process = process_for(str(directory), url)
    monkeypatch.setattr(process, "_spawn", lambda: started.append("child"))
    looked: list[bool] = []

    def look(path: str) -> bool:
        looked.append(is_locked(path))
        return looked[-1]

    monkeypatch.setattr(shipping_process, "is_locked", look)
    with Ledger(_path(directory, url), url):
        process.start()
        wait_until(lambda: len(looked) > 1, "it looks again")
        assert started == []
    wait_until(lambda: bool(started), "a start")
    process.end()


def test_a_process_that_cannot_be_started_is_logged(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", fail)
    process = process_for(str(directory), "postgresql://me:hunter2@db/there")
    process.start()
    wait_until(lambda: bool(caplog.messages), "a log record")
    process.end()
    assert "Resource temporarily unavailable" in caplog.text
    assert "hunter2" not in caplog.text
