"""What is read of files and journals: each observation once, whatever happens meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.journal.location import all_roots
from aqltelemetry.reading import sources
from interleaving import Process, Turns, ends_killed

_SEEDS = range(int(__import__("os").environ.get("SEEDS", "60")))


def _numbers(db: TelemetryDB) -> Counter[int]:
    """Count each number that was recorded, as a value of its own or as a duration."""
    frames = [db.frame(prefix, missing_ok=True).data() for prefix in ("custom", "duration")]
    return Counter(int(value) for frame in frames for value in frame["Measurement"])


class _Reader:
    """Refreshes again and again, and checks each time what is there."""

    def __init__(self, directory: Path, journal: Path) -> None:
        self.refreshes = 0
        self.db = TelemetryDB(directory, live=True, journal_dir=str(journal))
        self._directory = directory

    def check(self, process: Process) -> None:
        before = set(process.recorded)
        self.db.refresh()
        self.refreshes += 1
        found = _numbers(self.db)
        assert [number for number, times in found.items() if times > 1] == []
        assert before - found.keys() == set()
        assert found.keys() <= process.recorded


# A killed process closes its files without a word.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("seed", _SEEDS)
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
