"""What is read of files and journals: each observation once, whatever happens meanwhile."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.journal.location import all_roots
from aqltelemetry.reading import sources
from interleaving import Process, Turns, ends_killed


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
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = random.Random(seed)
    monkeypatch.setattr(sources, "_LISTINGS", choose.choice((1, 2, 10)))
    directory, journal = tmp_path / "monitoring", tmp_path / "journal"
    directory.mkdir()
    (root,) = all_roots(str(directory), str(journal))
    process = Process(directory, root, choose, max_file_bytes=choose.choice((150, 1 << 20)))
    turns = Turns(choose, share=choose.choice((0.05, 0.2, 0.5)))
    with turns.at_each_call():
        for work in (lambda: process.live(6), process.recover, process.recover):
            turns.kill_at = choose.choice((-1, choose.randrange(20, 120)))
            reader = _Reader(directory, journal)
            with turns.process(ends_killed(work)) as is_running:
                while is_running():
                    reader.check(process)
                    turns.meet()
            reader.check(process)
            _Reader(directory, journal).check(process)


@pytest.mark.system
@pytest.mark.parametrize("first", range(0, int(os.environ.get("SEEDS", "120")), 40))
def test_each_observation_is_read_once_in_many_more_orders(
    tmp_path: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEEDS=1000 for the long run."""
    for seed in range(1000 + first, 1040 + first):
        place = tmp_path / str(seed)
        place.mkdir()
        test_each_observation_is_read_once_whatever_happens_between_two_system_calls(
            place, seed, monkeypatch
        )
