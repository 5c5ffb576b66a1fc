"""Gunicorn's masters: one that is killed, and one that loads the application itself."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import matrix
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.location import all_roots
from aqltelemetry.sinks.file_names import parse
from servers import (
    PROGRAMS,
    WORKERS,
    Clients,
    children,
    is_alive,
    recover,
    start_gunicorn,
    wait_until,
)

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]
Property = Callable[[str, object], None]
_HUPS = int(os.environ.get("HUPS", "2"))
_WORKERS = 2
_PRELOADED = 8


def _environ(directory: Path) -> dict[str, str]:
    environ = {name: text for name, text in os.environ.items() if "AQLTELEMETRY" not in name}
    environ |= {"AQLTELEMETRY_DIR": str(directory)}
    return environ | {"AQLTELEMETRY_FLUSH_INTERVAL_S": "0.1", "AQLTELEMETRY_MAX_FILE_AGE_S": "0.3"}


def _found(rows: Rows) -> Counter[int]:
    return Counter(int(row["PID"]) for row in rows() if row["Label"] == matrix.RECORDED)


def _check_files(directory: Path) -> None:
    """Check that no file has rows of two processes, and that all is explained."""
    for path in directory.glob("duration.*.csv"):
        name = parse(path.name)
        with path.open(newline="") as file:
            assert name is not None
            assert {int(row["PID"]) for row in csv.DictReader(file)} == {name.pid}
    verdicts = verify(directory, all_roots(str(directory)))
    assert [problem for each in verdicts for problem in each.problems] == []


@pytest.mark.parametrize(
    "worker", ["sync", "aiohttp.GunicornWebWorker", "uvicorn_worker.UvicornWorker"]
)
async def test_row_10_a_killed_masters_workers_and_those_of_the_next_share_no_file(
    tmp_path: Path, directory: Path, rows: Rows, worker: str, record_property: Property
) -> None:
    """All serve one socket; most orphans end by themselves, those of uvicorn by a signal."""
    (tmp_path / "app.py").write_text(PROGRAMS[WORKERS[worker]])
    common = ("--config", "python:aqltelemetry.gunicorn", "--workers", str(_WORKERS))
    command = (*common, "--worker-class", worker, "app:app")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        clients = Clients(listening.getsockname()[1])
        environ = _environ(directory)
        first = start_gunicorn(command, tmp_path, listening, environ)
        with _stopped(clients), _ended(first):
            wait_until(lambda: _all_answer(first, clients), "workers that record")
            orphans = children(first.pid)
            first.kill()
            first.wait()
            before = sum(clients.answered[pid] for pid in orphans)
            second = start_gunicorn(command, tmp_path, listening, environ)
            with _ended(second):
                wait_until(lambda: _all_answer(second, clients), "workers of another master")
                for pid in filter(is_alive, orphans):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
                wait_until(lambda: not any(map(is_alive, orphans)), "the end of the orphans")
                clients.stop()
    await recover(directory)
    cell = matrix.Cell(clients.answered, clients.failed, killed=orphans)
    matrix.check(cell, _found(rows))
    _check_files(directory)
    after = sum(clients.answered[pid] for pid in orphans) - before
    record_property("sum requests answered", clients.answered.total())
    record_property("sum of them by workers without a master", after)


def _all_answer(master: subprocess.Popen[bytes], clients: Clients) -> bool:
    there = children(master.pid)
    return len(there) == _WORKERS and all(clients.answered[pid] for pid in there)


@contextlib.contextmanager
def _stopped(clients: Clients) -> Iterator[None]:
    clients.start()
    try:
        yield
    finally:
        clients.stop()


@contextlib.contextmanager
def _ended(master: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        master.send_signal(signal.SIGTERM)
        master.wait(60)


_RECORDS_ITSELF = """
from aqltelemetry import record, time_it
from aqltelemetry.wsgi import TelemetryMiddleware
app.wsgi_app = TelemetryMiddleware(app.wsgi_app)
@time_it
def loaded():
    record("loaded", 1)
loaded()  # in the master, where nothing records
"""


@pytest.mark.timeout(100 + 20 * _HUPS)
def test_row_12_a_master_that_loads_the_application_has_no_more_threads_or_files(
    tmp_path: Path, directory: Path, rows: Rows, record_property: Property
) -> None:
    """Compared with a master of the same application, unrecorded; HUPS=20 for the long run."""
    (tmp_path / "bare.py").write_text(PROGRAMS["flask"])
    (tmp_path / "ours.py").write_text(PROGRAMS["flask"] + _RECORDS_ITSELF)
    bare, _, _ = _preload(tmp_path, directory, "bare:app", hups=0)
    ours, master, clients = _preload(
        tmp_path, directory, "ours:app", "--config", "python:aqltelemetry.gunicorn", hups=_HUPS
    )
    assert ours == bare
    found = _found(rows)
    assert found == clients.answered
    assert len(found) > 1
    assert master not in {int(row["PID"]) for row in rows("*")}
    _check_files(directory)
    record_property("runs", _HUPS + 1)
    threads, fds = (after - before for before, after in zip(bare, ours, strict=True))
    record_property("got", f"threads +{threads}, descriptors +{fds} after {_HUPS} reloads")


def _preload(
    cwd: Path, directory: Path, *arguments: str, hups: int
) -> tuple[tuple[int, int], int, Clients]:
    """Run a master; return its threads and descriptors at the end, its PID, and its clients."""
    # Its control socket has a thread that starts some time after the first workers.
    command = (*arguments, "--no-control-socket", "--preload", "--workers", str(_PRELOADED))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        clients = Clients(listening.getsockname()[1])
        master = start_gunicorn(command, cwd, listening, _environ(directory))
        with _ended(master), _stopped(clients):
            wait_until(lambda: len(clients.answered) >= 1, "an answer")
            for _ in range(hups):
                old = children(master.pid)
                master.send_signal(signal.SIGHUP)
                wait_until(lambda old=old: _is_renewed(master, old), "new workers")  # type: ignore[misc]
            wait_until(lambda: len(children(master.pid)) == _PRELOADED, "all workers")
            known = clients.answered.total()
            wait_until(lambda: clients.answered.total() > known + 100, "more answers")
            # Gunicorn has one more descriptor while it starts or reaps a worker.
            process = psutil.Process(master.pid)
            return (process.num_threads(), process.num_fds()), master.pid, clients


def _is_renewed(master: subprocess.Popen[bytes], old: set[int]) -> bool:
    there = children(master.pid)
    return len(there) == _PRELOADED and not old & there
