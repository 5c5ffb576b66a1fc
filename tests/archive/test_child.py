"""The process that archives for a service reports a failure once, and gives way to the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqltelemetry.archive import child
from aqltelemetry.archive.child import archive
from aqltelemetry.errors import ArchiveBusyError
from aqltelemetry.sinks.archives import is_archive
from segments import record


def test_each_failure_is_reported_once(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    (broken,) = sorted(directory.glob("custom.*.csv"))[:1]
    text = broken.read_bytes()
    broken.write_bytes(text[:-3])
    reported: set[str] = set()
    lines: list[str] = []
    for _ in range(2):
        archive(str(directory), 0, None, reported, lines.append)
    assert len(lines) == 1
    assert broken.name in lines[0]
    assert len([path for path in directory.iterdir() if is_archive(path.name)]) == 4
    for _ in range(2):
        archive(str(tmp_path / "none"), 0, None, reported, lines.append)
    assert len(lines) == 2


def test_it_gives_way_to_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(directory: str, **_: object) -> None:
        raise ArchiveBusyError(directory)

    monkeypatch.setattr(child, "compact", busy)
    archive(str(tmp_path), 0, None, set(), pytest.fail)
