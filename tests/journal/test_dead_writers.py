from __future__ import annotations

import errno
import gc
import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from aqltelemetry.journal.dead_writers import DeadWriter, find_set_aside, lock_dead_writers
from aqltelemetry.journal.labels import TABLE_NAME
from aqltelemetry.journal.writer import Writer
from aqltelemetry.observation import Kind, Series
from aqltelemetry.system import syscalls
from fakes import writer_options
from injection import Fault, injected


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.mkdir(mode=0o700)
    return path


def _dead(root: Path, segments: int) -> Path:
    """Leave what a killed writer leaves: the lock is free, the files are there."""
    writer = Writer.in_journal(root, writer_options())
    for _ in range(segments):
        writer.new_segment()
    writer.close()
    assert writer.path is not None
    return writer.path


def test_a_dead_writer_is_claimed_with_its_segments_in_order(root: Path) -> None:
    path = _dead(root, 3)
    (dead,) = lock_dead_writers(root)
    assert [sealed.id for sealed in dead.segments] == [(path.name, n) for n in (1, 2, 3)]
    assert all(sealed.recovered for sealed in dead.segments)
    dead.close()


def test_a_living_writer_is_left_alone(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    writer.new_segment()
    assert list(lock_dead_writers(root)) == []
    writer.close()


def test_what_is_claimed_can_not_be_claimed_again(root: Path) -> None:
    _dead(root, 1)
    (dead,) = lock_dead_writers(root)
    assert list(lock_dead_writers(root)) == []
    dead.close()
    (again,) = lock_dead_writers(root)
    again.close()


def test_a_writer_goes_with_its_last_segment(root: Path) -> None:
    path = _dead(root, 2)
    (dead,) = lock_dead_writers(root)
    for sealed in tuple(dead.segments):
        assert path.exists()
        dead.discard(sealed)
    assert not path.exists()


def test_a_writer_without_segments_is_cleared_away(root: Path) -> None:
    (root / "0123456789abcdef").mkdir()
    (root / "0123456789abcdee.new").mkdir()
    assert list(lock_dead_writers(root)) == []
    assert list(root.iterdir()) == []


def test_a_segment_that_was_being_made_is_cleared_away(root: Path) -> None:
    path = _dead(root, 1)
    (path / "000002.new").write_bytes(b"half")
    (dead,) = lock_dead_writers(root)
    assert len(dead.segments) == 1
    assert sorted(each.name for each in path.iterdir()) == ["000001.seg"]
    dead.close()


def test_an_unreadable_segment_is_set_aside(root: Path) -> None:
    path = _dead(root, 1)
    (dead,) = lock_dead_writers(root)
    dead.set_aside(dead.segments[0])
    assert [each.name for each in root.iterdir()] == [f"{path.name}-000001.bad"]
    assert list(lock_dead_writers(root)) == []


def test_what_is_no_writer_is_left_alone(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "0123456789abcdef").write_text("a file")
    (root / "fedcba9876543210").symlink_to(root / "notes")
    assert list(lock_dead_writers(root)) == []
    assert len(list(root.iterdir())) == 3


def test_a_missing_journal_holds_nothing(root: Path) -> None:
    assert list(lock_dead_writers(root / "missing")) == []


def _with_table(path: Path) -> Path:
    (path / TABLE_NAME).write_bytes(b"")
    return path


def test_a_label_table_goes_with_the_last_segment_and_the_writer(root: Path) -> None:
    path = _with_table(_dead(root, 2))
    (dead,) = lock_dead_writers(root)
    for sealed in tuple(dead.segments):
        assert (path / TABLE_NAME).exists()
        dead.discard(sealed)
    assert not path.exists()


def test_a_label_table_stays_for_segments_that_are_given_up(root: Path) -> None:
    path = _with_table(_dead(root, 2))
    (dead,) = lock_dead_writers(root)
    dead.discard(dead.segments[0])
    dead.close()
    assert sorted(each.name for each in path.iterdir()) == ["000002.seg", TABLE_NAME]


def test_a_label_table_stays_for_a_segment_that_can_not_be_removed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(path)

    path = _with_table(_dead(root, 1))
    (dead,) = lock_dead_writers(root)
    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "unlink", fail)
        dead.discard(dead.segments[0])
    assert sorted(each.name for each in path.iterdir()) == ["000001.seg", TABLE_NAME]


def test_a_label_table_without_segments_is_cleared_away(root: Path) -> None:
    path = _with_table(_dead(root, 1))
    (path / "000001.seg").unlink()
    (path / "labels.new").write_bytes(b"half")
    assert list(lock_dead_writers(root)) == []
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("is_last", [False, True])
def test_a_label_table_outlives_a_segment_set_aside_if_there_are_others(
    root: Path, is_last: bool
) -> None:
    path = _with_table(_dead(root, 1 if is_last else 2))
    (dead,) = lock_dead_writers(root)
    dead.set_aside(dead.segments[0])
    assert (path / TABLE_NAME).exists() is not is_last
    dead.close()
    assert path.exists() is not is_last


def test_a_directory_named_like_a_label_table_is_set_aside(root: Path) -> None:
    path = _dead(root, 1)
    (path / TABLE_NAME).mkdir()
    (dead,) = lock_dead_writers(root)
    dead.discard(dead.segments[0])
    assert [each.name for each in root.iterdir()] == [f"{path.name}-labels.bad"]


def test_the_label_table_is_read_once_for_all_segments(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    table = writer.make_table()
    table.register("/a", Series("duration", "/a", Kind.NANOSECONDS))
    for _ in range(2):
        writer.new_segment()
    writer.close()
    (dead,) = lock_dead_writers(root)
    first, second = (sealed.labels() for sealed in dead.segments)
    assert first == table.labels
    assert first is second
    dead.close()


def _descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_claim_that_fails_leaves_the_writer_to_be_claimed_later(root: Path, number: int) -> None:
    """Whichever system call fails: no lock is left behind, and nothing is lost."""
    path = _with_table(_dead(root, 2))
    (path / "x.seg").mkdir()
    before = _descriptors()
    for nth in itertools.count(1):
        claimed: list[DeadWriter] = []
        with injected(Fault(nth, number)) as fault, suppress(OSError):
            claimed += lock_dead_writers(root)
        for dead in claimed:
            dead.close()
        del claimed
        where = f"call {nth} failed: {fault.struck}"
        assert _descriptors() == before, where
        (again,) = lock_dead_writers(root)
        assert [sealed.id.sequence for sealed in again.segments] == [1, 2], where
        again.close()
        if not fault.struck:
            break
    assert nth > 8


def test_a_writer_that_can_not_be_claimed_keeps_nobody_from_the_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [_dead(root, 1) for _ in range(3)]
    bad = sorted(paths)[1]
    listed = syscalls.list_directory

    def list_directory(path: Path) -> Sequence[str]:
        if path == bad:
            raise OSError(errno.EIO, "bad block")
        return listed(path)

    monkeypatch.setattr(syscalls, "list_directory", list_directory)
    claims = lock_dead_writers(root)
    found = [next(claims), next(claims)]
    assert {dead.segments[0].id.writer for dead in found} == {
        path.name for path in paths if path != bad
    }
    with pytest.raises(OSError, match="bad block"):
        next(claims)
    for dead in found:
        dead.close()


@pytest.mark.parametrize(
    "name",
    ["\u0661\u0662.seg", "x.seg", "-1.seg", ".seg", "\udcff.seg", "1\n.seg", "1.seg\udcff"],
)
def test_a_file_that_no_writer_has_named_is_no_segment(root: Path, name: str) -> None:
    path = _dead(root, 1)
    (path / name).write_bytes((path / "000001.seg").read_bytes())
    (dead,) = lock_dead_writers(root)
    assert [sealed.id.sequence for sealed in dead.segments] == [1]
    dead.close()


@pytest.mark.parametrize("number", ["\u00b2", "\u0661", "x", "", "\udcff"])
def test_a_file_that_was_not_set_aside_by_a_recoverer_is_not_one(root: Path, number: str) -> None:
    (root / f"{'0' * 16}-{number}.bad").touch()
    (root / f"{'0' * 16}-000007.bad").touch()
    assert list(find_set_aside(root)) == [("0" * 16, 7)]
