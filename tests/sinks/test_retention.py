from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqltelemetry.filenames import FileName, temporary
from aqltelemetry.sinks.retention import Retention
from fakes import EPOCH_NS, FakeClock

_S = 1_000_000_000


def _publish(directory: Path, second: int, size: int = 100) -> Path:
    at_ns = EPOCH_NS + second * _S
    name = FileName("duration", at_ns, at_ns + _S, 1, "0" * 16, 1, 1, 0)
    path = directory / str(name)
    path.write_bytes(b"x" * size)
    return path


def _retention(directory: Path, keep_bytes: int = 10**9, keep_s: float = 10**6) -> Retention:
    return Retention(str(directory), keep_bytes, keep_s, FakeClock(EPOCH_NS + 1_000 * _S))


def test_the_oldest_files_of_too_many_bytes_are_removed(tmp_path: Path) -> None:
    files = [_publish(tmp_path, second) for second in (3, 1, 2, 4)]
    retention = _retention(tmp_path, keep_bytes=250)
    retention.sweep()
    assert [path.exists() for path in files] == [True, False, False, True]
    assert retention.removed == 2


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_are_counted_and_removed(tmp_path: Path, suffix: str) -> None:
    files = []
    for second in (3, 1, 2, 4):
        path = _publish(tmp_path, second)
        files.append(path.rename(path.with_name(path.name + suffix)))
    retention = _retention(tmp_path, keep_bytes=250)
    retention.sweep()
    assert [path.exists() for path in files] == [True, False, False, True]
    assert retention.removed == 2


def test_files_of_too_great_an_age_are_removed(tmp_path: Path) -> None:
    files = [_publish(tmp_path, second) for second in (0, 500, 998)]
    _retention(tmp_path, keep_s=500).sweep()
    assert [path.exists() for path in files] == [False, True, True]


def test_what_is_within_the_bounds_stays(tmp_path: Path) -> None:
    files = [_publish(tmp_path, second) for second in range(4)]
    _retention(tmp_path, keep_bytes=400).sweep()
    assert all(path.exists() for path in files)


def test_other_peoples_files_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    foreign = [tmp_path / name for name in ("notes.csv", "duration.6b1f.csv", "big.bin", "x.tmp")]
    for path in foreign:
        path.write_bytes(b"x" * 10_000)
        os.utime(path, (1, 1))
    ours = _publish(tmp_path, 1)
    _retention(tmp_path, keep_bytes=100).sweep()
    assert all(path.exists() for path in (*foreign, ours))


def test_temporary_files_of_killed_processes_go_after_a_while(tmp_path: Path) -> None:
    old, new = (tmp_path / temporary("duration", "0" * 16, number) for number in (1, 2))
    now_s = EPOCH_NS // _S + 1_000
    for path, age_s in ((old, 601), (new, 599)):
        path.touch()
        os.utime(path, (now_s - age_s, now_s - age_s))
    _retention(tmp_path).sweep()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_that_a_reader_removes_meanwhile_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [_publish(tmp_path, second) for second in range(3)]
    unlink = os.unlink

    def race(path: str) -> None:
        unlink(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "unlink", race)
    retention = _retention(tmp_path, keep_bytes=100)
    retention.sweep()
    assert [path.exists() for path in files] == [False, False, True]
    assert retention.removed == 0


def test_directories_are_swept_once_a_minute_or_when_full(tmp_path: Path) -> None:
    clock = FakeClock(EPOCH_NS)
    retention = Retention(str(tmp_path), 250, 10**6, clock)
    _publish(tmp_path, 1)
    retention.added(100)  # the first one looks
    old = _publish(tmp_path, 0)
    retention.added(100)
    _publish(tmp_path, 2)
    assert old.exists()
    retention.added(100)  # by what is known, there are 300 now
    assert not old.exists()


def test_a_wall_clock_set_back_does_not_end_the_sweeping(tmp_path: Path) -> None:
    clock = FakeClock(EPOCH_NS)
    retention = Retention(str(tmp_path), 10**6, 10, clock)
    retention.added(0)
    clock.now_ns -= 3600 * _S
    stale = _publish(tmp_path, -7200)
    retention.added(0)
    assert not stale.exists()
