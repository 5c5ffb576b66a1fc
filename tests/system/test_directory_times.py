"""A change of a directory is never missed, however coarse its times are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.directory_times import COARSEST_NS, LONGEST_NS, DirectoryTimes

_BEGIN_NS = 1_000 * NS_PER_S


class _Stat(NamedTuple):
    st_dev: int
    st_ino: int
    st_mtime_ns: int
    st_ctime_ns: int


class _Disk:
    """A directory on a file system with coarse times, and the time."""

    def __init__(self, tick_ns: int) -> None:
        self.now_ns = _BEGIN_NS
        self.files = 0
        self._tick_ns = tick_ns
        self._changed_ns = _BEGIN_NS - 3600 * NS_PER_S

    def add(self) -> None:
        self.files += 1
        self._changed_ns = self.now_ns - self.now_ns % self._tick_ns

    def look_at(self, _: str) -> _Stat:
        return _Stat(1, 2, self._changed_ns, self._changed_ns)


@pytest.mark.parametrize("tick_ns", [1, 4_000_000, NS_PER_S, 2 * NS_PER_S])
def test_no_file_is_missed_whatever_the_resolution(
    monkeypatch: pytest.MonkeyPatch, tick_ns: int
) -> None:
    disk = _Disk(tick_ns)
    monkeypatch.setattr(syscalls, "look_at", disk.look_at)
    times = DirectoryTimes(["there"], lambda: disk.now_ns)
    listed, skipped = -1, 0
    for step in range(3_000):
        is_busy = step // 50 % 2 == 0
        disk.now_ns += 11 * NS_PER_S if step % 50 == 7 else 7_000_000
        if is_busy and step % 3 == 1:
            disk.add()
        if times.are_unchanged():
            skipped += 1
        else:
            times.note()
            listed = disk.files
            if step % 5 == 0:  # it appears right after the listing, in the same tick
                disk.add()
                continue
        assert listed == disk.files
    assert skipped > 0


def test_what_is_new_or_moved_away_is_a_change(tmp_path: Path) -> None:
    tmp_path.joinpath("there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there")
    now_ns = [0]
    times = DirectoryTimes([str(link)], lambda: now_ns[0])

    def note() -> None:
        now_ns[0] = link.stat().st_ctime_ns + COARSEST_NS
        times.note()

    note()
    assert times.are_unchanged()
    (link / "new").touch()
    assert not times.are_unchanged()
    note()
    assert times.are_unchanged()
    before = link.stat()
    (link / "other").touch()
    os.utime(link, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copying program does
    assert not times.are_unchanged()
    note()
    link.unlink()
    assert not times.are_unchanged()


def test_a_directory_that_is_unchanged_for_long_is_listed_all_the_same(tmp_path: Path) -> None:
    changed_ns = tmp_path.stat().st_ctime_ns
    now_ns = [changed_ns + COARSEST_NS - 1]
    times = DirectoryTimes([str(tmp_path)], lambda: now_ns[0])
    assert not times.are_unchanged()  # nothing was noted
    times.note()
    assert not times.are_unchanged()  # a change may not show yet
    now_ns[0] += 1
    times.note()
    assert times.are_unchanged()
    now_ns[0] += LONGEST_NS - 1
    assert times.are_unchanged()
    now_ns[0] += 1
    assert not times.are_unchanged()
    now_ns[0] = changed_ns  # the clock was set back
    assert not times.are_unchanged()
