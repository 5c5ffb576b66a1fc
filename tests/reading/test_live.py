"""Observations that are not published yet are read from the journal, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aqltelemetry import Monitor, TelemetryDB, record, time_block


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
