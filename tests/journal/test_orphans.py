from __future__ import annotations

from pathlib import Path

import pytest

from aqltelemetry.journal.orphans import claim_orphans
from aqltelemetry.journal.writer import Writer
from fakes import origin


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.mkdir(mode=0o700)
    return path


def _dead(root: Path, segments: int) -> Path:
    """Leave what a killed writer leaves: the lock is free, the files are there."""
    writer = Writer.in_journal(root, origin())
    for _ in range(segments):
        writer.new_segment()
    writer.close()
    assert writer.path is not None
    return writer.path


def test_a_dead_writer_is_claimed_with_its_segments_in_order(root: Path) -> None:
    path = _dead(root, 3)
    (orphans,) = claim_orphans(root)
    assert [sealed.id for sealed in orphans.segments] == [(path.name, n) for n in (1, 2, 3)]
    assert all(sealed.recovered for sealed in orphans.segments)
    orphans.close()


def test_a_living_writer_is_left_alone(root: Path) -> None:
    writer = Writer.in_journal(root, origin())
    writer.new_segment()
    assert list(claim_orphans(root)) == []
    writer.close()


def test_what_is_claimed_can_not_be_claimed_again(root: Path) -> None:
    _dead(root, 1)
    (orphans,) = claim_orphans(root)
    assert list(claim_orphans(root)) == []
    orphans.close()
    (again,) = claim_orphans(root)
    again.close()


def test_a_writer_goes_with_its_last_segment(root: Path) -> None:
    path = _dead(root, 2)
    (orphans,) = claim_orphans(root)
    for sealed in tuple(orphans.segments):
        assert path.exists()
        orphans.discard(sealed)
    assert not path.exists()


def test_a_writer_without_segments_is_cleared_away(root: Path) -> None:
    (root / "0123456789abcdef").mkdir()
    (root / "0123456789abcdee.new").mkdir()
    assert list(claim_orphans(root)) == []
    assert list(root.iterdir()) == []


def test_a_segment_that_was_being_made_is_cleared_away(root: Path) -> None:
    path = _dead(root, 1)
    (path / "000002.new").write_bytes(b"half")
    (orphans,) = claim_orphans(root)
    assert len(orphans.segments) == 1
    assert sorted(each.name for each in path.iterdir()) == ["000001.seg"]
    orphans.close()


def test_an_unreadable_segment_is_set_aside(root: Path) -> None:
    path = _dead(root, 1)
    (orphans,) = claim_orphans(root)
    orphans.set_aside(orphans.segments[0])
    assert [each.name for each in root.iterdir()] == [f"{path.name}-000001.bad"]
    assert list(claim_orphans(root)) == []


def test_what_is_no_writer_is_left_alone(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "0123456789abcdef").write_text("a file")
    (root / "fedcba9876543210").symlink_to(root / "notes")
    assert list(claim_orphans(root)) == []
    assert len(list(root.iterdir())) == 3


def test_a_missing_journal_holds_nothing(root: Path) -> None:
    assert list(claim_orphans(root / "missing")) == []
