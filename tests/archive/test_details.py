"""Archives in another directory have the details of their stalls there."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.archive.compact import compact
from aqltelemetry.archive.details import copy_details
from fakes import EPOCH_NS
from recordings import Recording

_S = 1_000_000_000
_LATER_NS = EPOCH_NS + 9000 * _S


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    recording = Recording(10.0)
    worker = recording.add_worker()
    worker.sample("user time", lambda at_s: at_s)
    worker.block(1, 0.25, "no CPU", 7)
    return recording.write(tmp_path / "recorded")


def test_stalls_in_archives_have_their_details_wherever_the_archives_are(
    tmp_path: Path, directory: Path
) -> None:
    target = tmp_path / "archives"
    target.mkdir()
    compact(str(directory), older_than_ns=_S, to=str(target), now_ns=lambda: _LATER_NS)
    assert [path.suffix for path in sorted(target.glob("stall*"))] == [".jsonl", ".parquet"]
    for place in (directory, target):
        assert TelemetryDB(place).stalls()["line"].tolist() == [7]
    compact(str(directory), older_than_ns=_S, now_ns=lambda: _LATER_NS)
    assert TelemetryDB(directory).stalls()["line"].tolist() == [7]


def test_details_are_copied_once_and_not_before_their_time(tmp_path: Path, directory: Path) -> None:
    target = tmp_path / "archives"
    target.mkdir()
    assert copy_details(str(directory), str(target), EPOCH_NS) == 0
    assert copy_details(str(directory), str(target), EPOCH_NS + 2 * _S) == 1
    assert copy_details(str(directory), str(target), EPOCH_NS + 2 * _S) == 0
    assert len([*target.iterdir()]) == 1
