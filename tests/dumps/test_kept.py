"""The names of dumps, and how many are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqltelemetry.dumps import kept
from aqltelemetry.system.clock import NS_PER_S, epoch_ns
from fakes import EPOCH_NS


def _make(directory: Path, number: int, size_bytes: int = 1000) -> Path:
    path = directory / "dumps" / kept.name_of(EPOCH_NS + number * NS_PER_S, f"lag {number}")
    path.mkdir(parents=True)
    (path / "file").write_bytes(bytes(size_bytes))
    return path


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("p99 812 ms of /orders/{id} [GET]", "p99-812-ms-of-orders-id-GET"),
        ("../../etc", "etc"),
        ("", "dump"),
        ("x" * 100, "x" * 60),
    ],
)
def test_a_name_has_the_time_and_the_words_of_the_reason(reason: str, words: str) -> None:
    assert kept.name_of(1_795_489_012 * NS_PER_S, reason) == f"20261124T025652Z-{words}"


def test_dumps_are_found_oldest_first_with_their_times(directory: Path) -> None:
    assert not kept.find(str(directory))
    later, earlier = _make(directory, 5), _make(directory, 1)
    (directory / "dumps" / "of somebody else").mkdir()
    being_made = _make(directory, 9)
    being_made.rename(f"{being_made}.77{kept.UNFINISHED}")
    found = kept.find(str(directory))
    assert [each.path for each in found] == [str(earlier), str(later)]
    assert found[1].at_ns - found[0].at_ns == 4 * NS_PER_S


def test_the_oldest_are_removed_above_a_number(directory: Path) -> None:
    made = [_make(directory, number) for number in range(5)]
    kept.remove_oldest(str(directory), keep=2)
    assert [path.exists() for path in made] == [False, False, False, True, True]


def test_the_oldest_are_removed_above_a_size_and_the_newest_stays(directory: Path) -> None:
    made = [_make(directory, number, 1000) for number in range(3)]
    kept.remove_oldest(str(directory), keep_bytes=2500)
    assert [path.exists() for path in made] == [False, True, True]
    kept.remove_oldest(str(directory), keep_bytes=10)
    assert [path.exists() for path in made] == [False, False, True]


def test_what_a_killed_process_left_is_removed_after_ten_minutes(directory: Path) -> None:
    left, new = _make(directory, 1), _make(directory, 2)
    left, new = (each.rename(f"{each}.77{kept.UNFINISHED}") for each in (left, new))
    long_ago_s = epoch_ns() / NS_PER_S - 601
    os.utime(left, (long_ago_s, long_ago_s))
    kept.remove_oldest(str(directory))
    assert (left.exists(), new.exists()) == (False, True)
