"""Observations that are not published yet are read from the journal, each once."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aqltelemetry import Monitor, TelemetryDB, record, time_block
from aqltelemetry.errors import MonitoringDirectoryError, OptionError
from aqltelemetry.journal.location import all_roots
from aqltelemetry.system.clock import epoch_ns

_STORM = Path(__file__).parents[2] / "benchmarks" / "live_storm.py"
_REFRESHES = int(os.environ.get("REFRESHES", "150"))


@pytest.fixture
async def monitor(directory: Path, tmp_path: Path) -> AsyncIterator[Monitor]:
    """Record into a directory without publishing anything before a flush."""
    async with Monitor(directory, with_runtime=False, journal_dir=tmp_path / "journal") as monitor:
        yield monitor


def _live(directory: Path) -> TelemetryDB:
    return TelemetryDB(directory, live=True, journal_dir=str(directory.parent / "journal"))


def _values(db: TelemetryDB) -> list[float]:
    return sorted(db.frame("custom", missing_ok=True).data()["Measurement"])


async def test_observations_are_read_before_and_after_they_are_published(
    monitor: Monitor, directory: Path
) -> None:
    db = _live(directory)
    for number in range(3):
        record("own", number)
    db.refresh()
    assert _values(db) == [0, 1, 2]
    assert TelemetryDB(directory).prefixes() == []
    record("own", 3)
    db.refresh()
    assert _values(db) == [0, 1, 2, 3]
    await monitor.flush()
    record("own", 4)
    db.refresh()
    assert _values(db) == _values(_live(directory)) == [0, 1, 2, 3, 4]


async def test_durations_are_the_same_numbers_as_in_the_file(
    monitor: Monitor, directory: Path
) -> None:
    for _ in range(100):
        async with time_block("block"):
            pass
    live = _live(directory).duration().data_by_process()
    await monitor.flush()
    published = TelemetryDB(directory).duration().data_by_process()
    assert live.equals(published)
    assert len(live) == 100


async def test_a_recording_is_running_until_it_is_stopped(directory: Path, tmp_path: Path) -> None:
    monitor = Monitor(directory, with_runtime=False, journal_dir=tmp_path / "journal")
    await monitor.start()
    record("own", 1)
    db = _live(directory)
    assert list(db.writers()["state"]) == ["running"]
    await monitor.stop()
    db.refresh()
    assert list(db.writers()["state"]) == list(TelemetryDB(directory).writers()["state"])
    assert list(db.writers()["state"]) == ["stopped"]


async def test_what_was_dropped_is_known_before_it_is_published(
    monitor: Monitor, directory: Path
) -> None:
    record("own", 1)
    record("own", "no number")  # type: ignore[arg-type]
    db = _live(directory)
    live = db.dropped().to_dict()
    assert list(live.values()) == [1.0]
    await monitor.flush()
    db.refresh()
    assert db.dropped().to_dict() == live == TelemetryDB(directory).dropped().to_dict()


async def test_labels_and_times_limit_what_is_read_from_the_journal(
    monitor: Monitor, directory: Path
) -> None:
    record("first", 1)
    between_ns = epoch_ns()
    record("second", 2)
    record("third", 3)
    journal = str(directory.parent / "journal")
    db = TelemetryDB(
        directory, live=True, journal_dir=journal, since=between_ns, labels=["first", "second"]
    )
    assert _values(db) == [2]
    assert db.frame("account").labels() == ["accepted"]
    assert [*db.writers()["state"]] == ["running"]


async def test_a_prefix_is_that_of_the_last_refresh_whenever_it_is_asked_for(
    monitor: Monitor, directory: Path
) -> None:
    record("own", 1)
    record("other", 1, "other")
    db = _live(directory)
    assert db.prefixes() == ["custom", "other"]
    record("own", 2)
    record("other", 2, "other")
    await monitor.flush()
    assert _values(db) == [1]
    assert len(db.frame("other").data()) == 1
    db.refresh()
    assert (_values(db), len(db.frame("other").data())) == ([1, 2], 2)


async def test_what_was_returned_before_does_not_change(monitor: Monitor, directory: Path) -> None:
    record("own", 1)
    db = _live(directory)
    before = db.frame("custom").data()
    record("own", 2)
    db.refresh()
    await monitor.flush()
    db.refresh()
    assert list(before["Measurement"]) == [1]


async def test_a_file_that_is_compressed_or_removed_after_it_was_read_changes_nothing(
    monitor: Monitor, directory: Path
) -> None:
    record("own", 1)
    await monitor.flush()
    db = _live(directory)
    assert _values(db) == [1]
    for path in [*directory.glob("custom.*.csv")]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    db.refresh()
    assert _values(db) == [1]
    for path in [*directory.glob("*.csv*")]:
        path.unlink()
    record("own", 2)
    db.refresh()
    assert _values(db) == [1, 2]


async def test_several_directories_are_read_together_and_a_copied_file_once(
    monitor: Monitor, directory: Path, tmp_path: Path
) -> None:
    record("own", 1)
    await monitor.flush()
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    record("own", 2)
    await monitor.flush()
    record("own", 3)
    journal = str(tmp_path / "journal")
    orders: list[list[str | Path]] = [[directory, copy], [str(copy), directory, directory]]
    for directories in orders:
        db = TelemetryDB(directories, live=True, journal_dir=journal)
        assert _values(db) == [1, 2, 3]
        (account, values) = db.not_read()
        assert account.name.startswith(f"{directories[-1]}/account.")
        assert values.reason.startswith(f"it is a copy of {directories[0]}/custom.")
        assert not values.is_lost
        assert len(db.writers()) == 1
        assert repr(db) == f"TelemetryDB({str(directories[0])!r}, {str(directories[-1])!r})"
    assert _values(TelemetryDB([directory, copy])) == [1, 2]


def test_a_missing_directory_among_several_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MonitoringDirectoryError, match="nowhere"):
        TelemetryDB([tmp_path, tmp_path / "nowhere"])
    with pytest.raises(OptionError, match="must be a directory, or several"):
        TelemetryDB([])


async def test_a_journal_that_can_not_be_read_is_said_and_the_files_are_shown(
    monitor: Monitor, directory: Path, tmp_path: Path
) -> None:
    record("own", 1)
    await monitor.flush()
    record("own", 2)
    (root,) = all_roots(str(directory), str(tmp_path / "journal"))
    root.chmod(0o777)
    db = _live(directory)
    assert _values(db) == [1]
    (problem,) = db.not_read()
    assert problem.name == str(root)
    assert "must belong to the user who records" in problem.reason
    root.chmod(0o700)
    db.refresh()
    assert _values(db) == [1, 2]
    assert db.not_read() == []


async def test_copied_files_are_read_without_their_journal(
    monitor: Monitor, directory: Path, tmp_path: Path
) -> None:
    record("own", 1)
    await monitor.flush()
    record("own", 2)
    there = tmp_path / "elsewhere"
    shutil.copytree(directory, there)
    db = _live(there)
    assert _values(db) == [1]
    assert db.not_read() == []
    assert [*db.writers()["state"]] == ["unknown"]


_KILLED = """
import os, signal, sys
from aqltelemetry import record, sync
sync.start(sys.argv[1], with_runtime=False)
for number in range(100):
    record("own", number)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.system
def test_a_killed_process_is_read_before_and_after_it_is_recovered(directory: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(directory)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert TelemetryDB(directory).prefixes() == []
    db = TelemetryDB(directory, live=True)
    for command in ("verify", "recover", "verify"):
        subprocess.run([sys.executable, "-m", "aqltelemetry", command, directory], check=True)
        db.refresh()
        assert _values(db) == [*range(100)]
        assert [*db.writers()["state"]] == ["killed"]
    assert [*TelemetryDB(directory).writers()["state"]] == ["killed"]


@pytest.mark.system
@pytest.mark.timeout(120 + _REFRESHES)
def test_each_refresh_during_a_storm_has_every_observation_once(tmp_path: Path) -> None:
    """`make storm-live` is the longer run."""
    command = [sys.executable, str(_STORM), "--refreshes", str(_REFRESHES), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["refreshes"] > _REFRESHES
    assert result["kills"] > _REFRESHES / 10
    assert result["observations"] > _REFRESHES
    faults = ("twice", "missing", "invented", "unequal", "problems")
    assert [result[name] for name in faults] == [0, 0, 0, 0, []]
