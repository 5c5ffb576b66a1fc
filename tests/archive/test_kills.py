"""Whichever system call of archiving fails, or is the last one: nothing is lost, nothing twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.archive.compact import LOCK_NAME, Compacted, compact
from aqltelemetry.audit.verify import verify
from aqltelemetry.errors import ArchiveError
from aqltelemetry.sinks.archives import is_archive
from injection import Fault, Kill, in_fork, injected
from segments import BEGIN_NS, HOUR_NS, observations, record

pytestmark = pytest.mark.system
_LATER_NS = BEGIN_NS + 9 * HOUR_NS
# The same calls are made for each of four prefixes, so every third of them is enough.
_STEP = 3


def _compact(directory: Path) -> Compacted:
    return compact(str(directory), older_than_ns=HOUR_NS, now_ns=lambda: _LATER_NS)


def _proved(directory: Path) -> bool:
    verdicts = verify(directory, [])
    return all(verdict.is_accounted_for and not verdict.problems for verdict in verdicts)


def _copies(directory: Path, place: Path) -> Iterator[tuple[int, Path]]:
    """Yield a number, from 1 on, and a fresh copy, which is removed afterwards."""
    number = 1
    while True:
        yield number, Path(shutil.copytree(directory, place / str(number)))
        shutil.rmtree(place / str(number))
        number += _STEP


def _is_archived(directory: Path) -> bool:
    names = {path.name for path in directory.iterdir()} - {LOCK_NAME}
    return all(map(is_archive, names)) and len(names) == 4


def test_a_kill_before_any_system_call_loses_nothing(tmp_path: Path) -> None:
    original = record(tmp_path / "original", processes=1, segments=1, rows=1)
    expected = observations(TelemetryDB(original))
    kills = 0
    for number, directory in _copies(original, tmp_path / "copies"):

        def archive(number: int = number, directory: Path = directory) -> None:
            with injected(Kill(number)):
                _compact(directory)

        code = in_fork(archive)
        assert observations(TelemetryDB(directory)) == expected
        assert _proved(directory)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        _compact(directory)
        assert _is_archived(directory)
        assert observations(TelemetryDB(directory)) == expected
        assert _proved(directory)
    assert kills > 20


@pytest.mark.parametrize("lasting", [False, True])
def test_a_failure_of_any_system_call_loses_nothing(tmp_path: Path, *, lasting: bool) -> None:
    original = record(tmp_path / "original", processes=1, segments=1, rows=1)
    expected = observations(TelemetryDB(original))
    for number, directory in _copies(original, tmp_path / "copies"):
        with injected(Fault(number, lasting=lasting)) as fault, suppress(OSError, ArchiveError):
            _compact(directory)
        assert observations(TelemetryDB(directory)) == expected
        assert _proved(directory)
        if not fault.struck:
            break
        _compact(directory)
        assert _is_archived(directory)
        assert observations(TelemetryDB(directory)) == expected
    assert number > 50


def test_real_processes_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", processes=4, segments=40, rows=50)
    expected = observations(TelemetryDB(directory))
    command = [sys.executable, "-m", "aqltelemetry", "compact", str(directory)]
    killed = 0
    for number in range(5):
        with subprocess.Popen(
            [*command, "--older-than", "0s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            # From its lock on, at a later moment each time: after so many files have changed.
            while process.poll() is None and not (directory / LOCK_NAME).exists():
                os.sched_yield()
            before = len(os.listdir(directory))
            while process.poll() is None and abs(before - len(os.listdir(directory))) < 60 * number:
                os.sched_yield()
            process.kill()
        killed += process.returncode == -signal.SIGKILL
        assert observations(TelemetryDB(directory)) == expected
        assert _proved(directory)
    assert killed > 0
    subprocess.run([*command, "--older-than", "0s"], check=True, capture_output=True)
    assert _is_archived(directory)
    assert observations(TelemetryDB(directory)) == expected
    assert _proved(directory)
