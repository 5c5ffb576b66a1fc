"""What is read of files and journals: each observation once, whatever happens meanwhile."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from interleaving import Process, check_interleaved


def _numbers(db: TelemetryDB) -> Counter[int]:
    """Count each number that was recorded, as a value of its own or as a duration."""
    parts = [db.rows(prefix, missing_ok=True) for prefix in ("custom", "duration")]
    return Counter(int(value) for rows in parts for value in rows.measurements.tolist())


class _Reader:
    """Refreshes again and again, and checks each time what is there."""

    def __init__(self, directory: Path, journal: Path) -> None:
        self.db = TelemetryDB(directory, live=True, journal_dir=str(journal))

    def check(self, process: Process) -> None:
        before = set(process.recorded)
        self.db.refresh()
        found = _numbers(self.db)
        assert [number for number, times in found.items() if times > 1] == []
        assert before - found.keys() == set()
        assert found.keys() <= process.recorded


# A killed process closes its files without a word.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


@pytest.mark.parametrize("seed", range(12))
def test_each_observation_is_read_once_whatever_happens_between_two_system_calls(
    tmp_path: Path, seed: int
) -> None:
    check_interleaved(tmp_path, seed, _Reader)


@pytest.mark.system
@pytest.mark.parametrize("first", range(0, int(os.environ.get("SEEDS", "120")), 40))
def test_each_observation_is_read_once_in_many_more_orders(tmp_path: Path, first: int) -> None:
    """SEEDS=1000 for the long run."""
    for seed in range(1000 + first, 1040 + first):
        place = tmp_path / str(seed)
        place.mkdir()
        check_interleaved(place, seed, _Reader)
