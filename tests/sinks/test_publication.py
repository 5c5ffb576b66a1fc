from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.publication import Publication, publish

_NAME = FileName("duration", 0, 1_000, 1, "0" * 16, 1, 1, 0)


@pytest.fixture
def made(tmp_path: Path) -> Publication:
    path = tmp_path / "made.tmp"
    path.write_bytes(b"rows")
    return Publication(str(path), _NAME)


def _names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_a_file_gets_its_name_and_loses_the_temporary_one(
    tmp_path: Path, made: Publication
) -> None:
    assert publish(str(tmp_path), [made]) == 4
    assert _names(tmp_path) == [str(_NAME)]


def test_what_is_published_already_stays_as_it_is(tmp_path: Path, made: Publication) -> None:
    (tmp_path / str(_NAME)).write_bytes(b"first")
    assert publish(str(tmp_path), [made]) == 0
    assert _names(tmp_path) == [str(_NAME)]
    assert (tmp_path / str(_NAME)).read_bytes() == b"first"


def _no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def test_without_hard_links_files_are_renamed(
    tmp_path: Path, made: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _no_links)
    publish(str(tmp_path), [made])
    assert _names(tmp_path) == [str(_NAME)]


def test_without_hard_links_nothing_is_overwritten(
    tmp_path: Path, made: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _no_links)
    (tmp_path / str(_NAME)).write_bytes(b"first")
    publish(str(tmp_path), [made])
    assert (tmp_path / str(_NAME)).read_bytes() == b"first"


def test_a_full_disk_is_reported(
    tmp_path: Path, made: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="no space"):
        publish(str(tmp_path), [made])
    assert _names(tmp_path) == ["made.tmp"]


def test_what_is_synchronised_is_so_before_it_has_its_name_and_its_directory_after(
    tmp_path: Path, made: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        told.append((path, " ".join(_names(tmp_path))))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    assert publish(str(tmp_path), [made], with_fsync=True) == 4
    assert told == [(made.path, "made.tmp"), (str(tmp_path), str(_NAME))]
    publish(str(tmp_path), [], with_fsync=False)
    assert len(told) == 2
