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


def test_a_published_file_has_only_its_final_name(tmp_path: Path, made: Publication) -> None:
    assert publish(str(tmp_path), [made]) == 4
    assert _names(tmp_path) == [str(_NAME)]


def test_a_published_file_is_not_overwritten(tmp_path: Path, made: Publication) -> None:
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


def test_a_file_is_synchronised_before_its_rename_and_the_directory_after_it(
    tmp_path: Path, made: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        calls.append((path, " ".join(_names(tmp_path))))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    assert publish(str(tmp_path), [made], with_fsync=True) == 4
    assert calls == [(made.path, "made.tmp"), (str(tmp_path), str(_NAME))]
    publish(str(tmp_path), [], with_fsync=False)
    assert len(calls) == 2
