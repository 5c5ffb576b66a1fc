"""Each observation is returned once, whatever the processes do between two system calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aqltelemetry import Monitor, record
from aqltelemetry.views.live.new_rows import Listed, NewRows
from interleaving import Process, check_interleaved


class _Reader:
    """Reads again and again, and checks each time what was returned so far."""

    def __init__(self, directory: Path, journal: Path) -> None:
        self.new = NewRows([str(directory)], ("custom", "duration"), journal_dir=str(journal))
        self.found: Counter[int] = Counter()

    def read(self) -> list[float]:
        values = [value for _, rows in self.new.read() for value in rows.measurements]
        self.found.update(map(int, values))
        return values

    def check(self, process: Process) -> None:
        before = set(process.recorded)
        self.read()
        assert [number for number, times in self.found.items() if times > 1] == []
        assert before - self.found.keys() == set()
        assert self.found.keys() <= process.recorded


# A killed process closes its files without a word.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("seed", range(20))
def test_each_observation_is_returned_once(tmp_path: Path, seed: int) -> None:
    check_interleaved(tmp_path, seed, _Reader)


@pytest.fixture
async def monitor(directory: Path, tmp_path: Path) -> AsyncIterator[Monitor]:
    async with Monitor(directory, with_runtime=False, journal_dir=tmp_path / "journal") as monitor:
        yield monitor


async def test_nothing_new_is_nothing(monitor: Monitor, directory: Path) -> None:
    reader = _Reader(directory, directory.parent / "journal")
    for number in range(3):
        record("own", number)
        assert reader.read() == [number]
        assert reader.read() == []
    await monitor.flush()
    assert reader.read() == []


async def test_equal_observations_of_the_same_label_count_each(
    monitor: Monitor, directory: Path
) -> None:
    reader = _Reader(directory, directory.parent / "journal")
    for _ in range(3):
        record("own", 7)
    assert reader.read() == [7, 7, 7]
    record("own", 7)
    await monitor.flush()
    assert reader.read() == [7]


async def test_files_from_before_a_time_are_read_when_they_are_asked_for(
    monitor: Monitor, directory: Path, tmp_path: Path
) -> None:
    record("own", 1)
    await monitor.flush()
    year_2200_ns = 7_258_118_400 * 10**9
    new = NewRows(
        [str(directory)], ("custom",), since_ns=year_2200_ns, journal_dir=str(tmp_path / "journal")
    )
    assert list(new.read()) == []
    assert new.older == 1
    ((prefix, rows),) = new.read_older(5)
    assert (prefix, rows.measurements.tolist()) == ("custom", [1.0])
    assert new.older == 0


def test_files_that_have_long_been_gone_are_forgotten() -> None:
    listed = Listed(gone=3)
    for number in range(100):
        assert listed.add(("there", f"{number}"))
        listed.keep({("there", f"{number}")})
        assert len(listed) <= 4
    assert listed.names() == {"99", "98", "97", "96"}
    assert not listed.add(("there", "97"))
    assert listed.add(("there", "5"))


def test_files_that_are_gone_all_at_once_are_remembered_until_they_are_back() -> None:
    listed = Listed(gone=3)
    every = {("there", f"{number}") for number in range(100)}
    assert all(map(listed.add, sorted(every)))
    listed.keep(set())
    listed.keep(set())
    assert len(listed) == 100
    assert not any(map(listed.add, sorted(every)))
    listed.keep(every)
    assert len(listed) == 100


async def test_rows_of_files_that_are_gone_for_a_while_are_returned_once(
    monitor: Monitor, directory: Path
) -> None:
    reader = _Reader(directory, directory.parent / "journal")
    record("own", 7)
    await monitor.flush()
    assert reader.read() == [7]
    away = directory.parent / "away"
    away.mkdir()
    moved = [path.rename(away / path.name) for path in directory.glob("*.csv")]
    assert moved
    assert reader.read() == []
    for path in moved:
        path.rename(directory / path.name)
    assert reader.read() == []
