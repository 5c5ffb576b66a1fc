from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqltelemetry.journal import dir_lock
from aqltelemetry.journal.dir_lock import NEW_SUFFIX, is_alive, is_locked_by, lock, make_locked


def test_a_recoverer_in_the_way_of_a_new_writer_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold what has no name yet, and be kept from running meanwhile."""
    path = tmp_path / "journal" / ("0" * 16)
    made = path.with_name(path.name + NEW_SUFFIX)
    made.mkdir(parents=True)
    held = lock(made)
    assert held is not None
    waits_s: list[float] = []

    def wait(seconds: float) -> None:
        waits_s.append(seconds)
        if len(waits_s) == 3:
            made.rmdir()
            os.close(held)

    monkeypatch.setattr(dir_lock, "pause", wait)
    os.close(make_locked(path))
    assert waits_s == [0.001, 0.002, 0.004]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_lock_is_on_the_directory_that_has_the_name_now(tmp_path: Path) -> None:
    path = tmp_path / "journal" / ("0" * 16)
    fd = make_locked(path)
    assert is_locked_by(fd, path)
    path.rmdir()
    assert not is_locked_by(fd, path)
    other = make_locked(path)
    assert is_locked_by(other, path)
    assert not is_locked_by(fd, path)
    assert lock(path) is None
    os.close(other)
    os.close(fd)


def test_a_writer_is_alive_while_its_directory_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "root" / "writer"
    fd = make_locked(path)
    assert is_alive(path)
    os.close(fd)
    assert not is_alive(path)
    path.rmdir()
    assert not is_alive(path)
