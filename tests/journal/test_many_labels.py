"""As many labels as a process may have, in turn: each observation is there, under its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from aqltelemetry import Monitor, time_block
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.format import LABEL_SLOT_BYTES
from aqltelemetry.journal.labels import (
    MAX_LABELS,
    OTHER_LABELS,
    TABLE_BYTES,
    TABLE_NAME,
    TABLE_SLOTS,
)
from aqltelemetry.journal.location import all_roots
from aqltelemetry.sinks.file_names import parse
from servers import recover

Counts = Callable[..., Counter[str]]
_TURNS = 4
_EXPECTED = Counter({f"/{number}": _TURNS for number in range(MAX_LABELS)})
# The limit holds for a forked child too, which has no table.
_CHILDS = Counter({OTHER_LABELS: 300})
# What is left when it is killed is as it was recorded: nothing was published.
_KILLED = """
import asyncio, os, signal, sys, time
from aqltelemetry import Monitor, time_block

async def main():
    mine = Monitor(sys.argv[1], with_runtime=False)
    await mine.start()
    for number in range(int(sys.argv[2]) * int(sys.argv[3])):
        with time_block("/%d" % (number % int(sys.argv[3]))):
            pass
        if number % 1_000 == 0:  # on a busy machine the thread that makes segments gets its turn
            time.sleep(0.002)
    assert not mine.stats().dropped
    if os.fork() == 0:
        for number in range(300):
            with time_block("child %d" % number):
                pass
        os._exit(0)
    os.wait()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def _compared(found: Counter[str]) -> tuple[Counter[str], Counter[str]]:
    """Return what is missing, and what else there is."""
    return _EXPECTED - found, found - _EXPECTED


def _segments(directory: Path) -> int:
    names = [parse(path.name) for path in directory.glob("duration.*.csv")]
    return max(name.last for name in names if name is not None)


async def test_ten_thousand_labels_in_turn_are_published_each_under_its_own(
    directory: Path, counts: Counts
) -> None:
    mine = Monitor(directory, with_runtime=False, stop_timeout_s=100)
    async with mine:
        for number in range(_TURNS * MAX_LABELS):
            with time_block(f"/{number % MAX_LABELS}"):
                pass
    assert mine.stats().dropped == {}
    assert _compared(counts()) == (Counter(), Counter())
    assert _segments(directory) < _TURNS * MAX_LABELS // 1_024 // 2
    (verdict,) = verify(directory, all_roots(str(directory)))
    assert (verdict.torn, verdict.problems) == (0, [])


@pytest.fixture
def killed(directory: Path) -> Path:
    """Leave what a killed process leaves that had many labels; return its label table."""
    command = [sys.executable, "-c", _KILLED, str(directory), str(_TURNS), str(MAX_LABELS)]
    assert subprocess.run(command, check=False, timeout=100).returncode == -signal.SIGKILL
    (table,) = _journal(directory, f"*/{TABLE_NAME}")
    return table


def _journal(directory: Path, pattern: str) -> Sequence[Path]:
    return [path for root in all_roots(str(directory)) for path in root.glob(pattern)]


def _check_all_is_explained(directory: Path, torn: int = 0) -> None:
    verdicts = verify(directory, all_roots(str(directory)))
    assert [problem for verdict in verdicts for problem in verdict.problems] == []
    assert sum(verdict.torn for verdict in verdicts) == torn
    assert sum(verdict.accepted for verdict in verdicts) == _TURNS * MAX_LABELS + 300
    assert _journal(directory, "*") == []


async def test_a_killed_process_with_many_labels_loses_nothing(
    directory: Path, counts: Counts, killed: Path
) -> None:
    (alive,) = (each for each in verify(directory, [killed.parent.parent]) if each.in_journal > 300)
    assert alive.in_journal == _TURNS * MAX_LABELS
    assert killed.stat().st_size == TABLE_BYTES
    await recover(directory)
    assert _compared(counts()) == (Counter(), _CHILDS)
    _check_all_is_explained(directory)


async def test_a_damaged_label_table_costs_the_records_of_the_damaged_entries(
    directory: Path, counts: Counts, killed: Path
) -> None:
    at = TABLE_BYTES - (TABLE_SLOTS - 500) * LABEL_SLOT_BYTES
    with killed.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(100 * LABEL_SLOT_BYTES))
    await recover(directory)
    lost, others = _compared(counts())
    assert len(lost) == 100
    # Some were recorded under the first segment's own labels, before there was a table.
    assert 100 <= lost.total() <= 100 * _TURNS
    assert others == _CHILDS
    _check_all_is_explained(directory, torn=lost.total())


@pytest.mark.parametrize("is_there", [False, True])
async def test_without_its_label_table_what_segments_name_themselves_is_kept(
    directory: Path, counts: Counts, killed: Path, is_there: bool
) -> None:
    killed.unlink()
    if is_there:
        killed.touch()
    await recover(directory)
    lost, others = _compared(counts())
    assert 0 < lost.total() < _EXPECTED.total()
    assert others == _CHILDS
    _check_all_is_explained(directory, torn=lost.total())
