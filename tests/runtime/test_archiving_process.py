"""The process that archives what is recorded: it is shared, and ends with the service."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from aqltelemetry import Monitor, TelemetryDB
from aqltelemetry.archive.child import LOCK_NAME
from aqltelemetry.audit.rolled_up import rolled_up
from aqltelemetry.runtime import shipping_process as module
from aqltelemetry.runtime.shipping_process import archiving_process
from aqltelemetry.settings import settings
from aqltelemetry.shipping.ledger_lock import is_locked
from aqltelemetry.sinks.archives import is_archive
from segments import record, rows_of
from servers import PROGRAMS, Clients, children, gunicorn, wait_until

_ROLL_UPS = "rollup.*.parquet"
_SERVICE = """
import sys, time
from aqltelemetry import sync
sync.start(sys.argv[1], compact_after_s="1m", compact_rollup_s="1m", with_runtime=False,
           keep_s="99999d", keep_rollups_s="99999d")
print("recording", flush=True)
time.sleep(300)
"""


def _service(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SERVICE, str(directory)]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    assert service.stdout.readline() == "recording\n"
    return service


def _rows(db: TelemetryDB) -> Mapping[str, Any]:
    return {prefix: rows_of(db, prefix) for prefix in db.prefixes()}


def _check(directory: Path, expected: Mapping[str, Any]) -> None:
    """Check that everything is there, in archives, and in roll-ups too."""
    db = TelemetryDB(directory)
    found = _rows(db)
    for prefix, rows in expected.items():
        before = set(rows)
        assert [row for row in found[prefix] if row in before] == rows
    assert len([path for path in directory.iterdir() if is_archive(path.name)]) == 4
    assert int(db.rollups("duration")["count"].sum()) == len(expected["duration"])
    assert not rolled_up([directory]).problems


def _children(service: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(service.pid).children()


def _has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.system
def test_the_services_of_a_directory_share_one_that_ends_with_them(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    expected = _rows(TelemetryDB(directory))
    lock = directory / LOCK_NAME.removesuffix(".lock")
    with _service(directory) as first:
        try:
            wait_until(lambda: len([*directory.glob(_ROLL_UPS)]) == 3, "roll-ups")
            assert not [*directory.glob("*.csv")]
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
    _check(directory, expected)


def _archiving(directory: Path) -> list[psutil.Process]:
    """Return the processes that archive the files of a directory."""
    command = ["aqltelemetry.archive.child", str(directory)]
    every = psutil.process_iter(["cmdline"])
    return [each for each in every if (each.info["cmdline"] or [])[-2:] == command]


@pytest.mark.system
def test_the_workers_of_gunicorn_share_one(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    expected = _rows(TelemetryDB(directory))
    (tmp_path / "app.py").write_text(PROGRAMS["flask"])
    options = {
        "DIR": str(directory),
        "COMPACT_AFTER_S": "1m",
        "COMPACT_ROLLUP_S": "1m",
        "KEEP_S": "99999d",
        "KEEP_ROLLUPS_S": "99999d",
    }
    environ = {**os.environ, **{f"AQLTELEMETRY_{name}": text for name, text in options.items()}}
    config = ("--config", "python:aqltelemetry.gunicorn", "--workers", "3")
    with gunicorn((*config, "app:app"), tmp_path, environ) as (server, port):
        clients = Clients(port)
        clients.start()
        try:
            wait_until(lambda: len(clients.answered) == 3, "each worker records")
        finally:
            clients.stop()
        wait_until(lambda: len([*directory.glob(_ROLL_UPS)]) == 3, "roll-ups")
        wait_until(lambda: len(_archiving(directory)) == 1, "one process is left")
        (child,) = _archiving(directory)
        assert child.ppid() in children(server.pid)
    wait_until(lambda: not is_locked(str(directory / ".archive-child")), "the lock is free")
    _check(directory, expected)


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
    assert archiving_process(settings(directory, {"compact_after_s": 60})) is None
    assert "pip install aqltelemetry[pyarrow]" in caplog.text
