from __future__ import annotations

import cProfile
import os
import pstats
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqltelemetry.errors import ProfilerError
from aqltelemetry.profiler import Profiler


@pytest.fixture(autouse=True)
def _no_profile() -> Iterator[None]:
    yield
    sys.setprofile(None)


def _work() -> int:
    return sum(range(100))


def test_the_file_is_named_after_the_process_and_holds_what_was_called(tmp_path: Path) -> None:
    profiler = Profiler(str(tmp_path))
    profiler.start()
    _work()
    profiler.stop()
    (path,) = tmp_path.iterdir()
    assert path.name == f"profiler.{os.getpid()}.data"
    names = {name for *_, name in pstats.Stats(str(path)).stats}  # type: ignore[attr-defined]
    assert "_work" in names


def test_another_profiler_is_named_and_left_alone(tmp_path: Path) -> None:
    other = cProfile.Profile()
    other.enable()
    try:
        with pytest.raises(ProfilerError, match="only one can be"):
            Profiler(str(tmp_path)).start()
        _work()
    finally:
        other.disable()
    assert "_work" in {name for *_, name in pstats.Stats(other).stats}  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_cannot_be_written_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / f"profiler.{os.getpid()}.data").mkdir()
    profiler = Profiler(str(tmp_path))
    profiler.start()
    with pytest.raises(OSError, match="directory"):
        profiler.stop()
    assert sys.getprofile() is None
    assert list(tmp_path.glob("*.tmp")) == []
