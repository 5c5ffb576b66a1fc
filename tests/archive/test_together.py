"""A directory is recorded into, shipped, archived and rotated, and each of these is killed.

`benchmarks/together.py` kills each step before each of its calls.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from aqltelemetry.archive import compact as module
from aqltelemetry.archive.csv_file import Content
from aqltelemetry.sinks.archives import ArchiveName
from four_at_once import FourAtOnce
from whole_life import ELSEWHERE, HERE, Life, archiving, archiving_here, retiring, shipping

pytestmark = pytest.mark.system


def test_a_step_that_is_killed_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path, HERE)
    assert life.kill(HERE.index(archiving_here), 60)
    assert life.kill(HERE.index(shipping), 12)
    assert life.kill(HERE.index(retiring), 7)

    def too_early(directory: str, contents: Sequence[Content]) -> ArchiveName:
        for content in contents:
            (Path(directory) / str(content.member.name)).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(module, "write_archive", too_early)
    with pytest.raises(AssertionError):
        life.kill(HERE.index(archiving_here), 1000)


def test_the_same_with_archives_in_another_directory(tmp_path: Path) -> None:
    life = Life(tmp_path, ELSEWHERE)
    assert life.kill(ELSEWHERE.index(archiving), 75)
    assert life.kill(ELSEWHERE.index(retiring), 7)


def test_four_that_are_killed_at_the_same_time_lose_and_repeat_nothing(tmp_path: Path) -> None:
    four = FourAtOnce(tmp_path, Random(1))
    for _ in range(3):
        four.round()
    four.finish()
    assert four.kills.total() == 12
    assert four.expected
