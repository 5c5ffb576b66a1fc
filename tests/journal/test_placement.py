from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqltelemetry.journal import placement
from aqltelemetry.journal.placement import (
    MEMORY,
    PlacementError,
    all_roots,
    file_system,
    journal_root,
)


@pytest.fixture
def shm(tmp_path: Path) -> Path:
    path = tmp_path / "shm"
    path.mkdir()
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def mounts(tmp_path: Path, shm: Path) -> Path:
    """A machine whose disk is ext4, with a memory file system."""
    return _mounts(tmp_path, {"/": "ext4", str(shm): "tmpfs"})


def _mounts(tmp_path: Path, points: dict[str, str]) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(
        "".join(
            f"{number} 1 8:1 / {point} rw,relatime shared:1 - {kind} /dev/x rw\n"
            for number, (point, kind) in enumerate(points.items(), 20)
        )
    )
    return path


def _root(data: Path, mounts: Path, shm: Path, *, container: bool = False) -> Path:
    return journal_root(str(data), mounts=mounts, shm=shm, container=container)


def test_outside_containers_the_journal_is_in_memory_that_outlives_the_process(
    data: Path, mounts: Path, shm: Path
) -> None:
    root = _root(data, mounts, shm)
    assert root.parent == shm / f"aqltelemetry-{os.geteuid()}"
    assert root.stat().st_mode & 0o777 == 0o700
    assert root.parent.stat().st_mode & 0o777 == 0o700


def test_two_monitoring_directories_have_two_journals(
    data: Path, mounts: Path, shm: Path, tmp_path: Path
) -> None:
    assert _root(data, mounts, shm) != _root(tmp_path / "other", mounts, shm)


def test_in_a_container_the_journal_is_on_the_volume(data: Path, mounts: Path, shm: Path) -> None:
    assert _root(data, mounts, shm, container=True) == data / ".journal"


def test_a_directory_in_memory_has_its_journal_beside(
    tmp_path: Path, mounts: Path, shm: Path
) -> None:
    directory = shm / "monitoring"
    directory.mkdir()
    assert _root(directory, mounts, shm) == directory / ".journal"


def test_a_machine_without_a_memory_file_system_has_the_journal_beside(
    data: Path, tmp_path: Path, shm: Path
) -> None:
    assert _root(data, _mounts(tmp_path, {"/": "ext4"}), shm) == data / ".journal"


def test_a_chosen_journal_directory_is_taken(data: Path, mounts: Path, tmp_path: Path) -> None:
    root = journal_root(str(data), str(tmp_path / "mine"), mounts=mounts)
    assert root.parent == tmp_path / "mine"


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_file_system_that_can_not_be_mapped_safely_is_refused(
    data: Path, tmp_path: Path, shm: Path, kind: str
) -> None:
    with pytest.raises(PlacementError, match=kind):
        _root(data, _mounts(tmp_path, {"/": kind}), shm)


def test_recording_in_memory_may_be_asked_for(data: Path) -> None:
    with pytest.raises(PlacementError, match="memory"):
        journal_root(str(data), MEMORY)


def test_a_planted_link_is_not_followed(
    data: Path, mounts: Path, shm: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (shm / f"aqltelemetry-{os.geteuid()}").symlink_to(victim)
    with pytest.raises(PlacementError, match="no link"):
        _root(data, mounts, shm)
    assert list(victim.iterdir()) == []


def test_a_directory_that_others_may_write_to_is_refused(
    data: Path, mounts: Path, shm: Path
) -> None:
    planted = shm / f"aqltelemetry-{os.geteuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(PlacementError, match="no other may write"):
        _root(data, mounts, shm)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(data: Path, mounts: Path, shm: Path) -> None:
    planted = shm / f"aqltelemetry-{os.geteuid()}"
    planted.mkdir(mode=0o700)
    os.chown(planted, 65534, 65534)
    with pytest.raises(PlacementError, match="belong to this user"):
        _root(data, mounts, shm)


@pytest.mark.parametrize("container", [False, True])
def test_recovery_looks_wherever_a_journal_may_have_been(
    data: Path, mounts: Path, shm: Path, container: bool
) -> None:
    assert _root(data, mounts, shm, container=container) in all_roots(str(data), shm=shm)


def test_the_innermost_mount_point_decides(tmp_path: Path) -> None:
    mounts = _mounts(tmp_path, {"/": "ext4", "/data": "nfs", "/data/fast": "tmpfs"})
    assert file_system(Path("/data/fast/x"), mounts) == "tmpfs"
    assert file_system(Path("/data/fastidious"), mounts) == "nfs"
    assert file_system(Path("/x"), mounts) == "ext4"


def test_an_unknown_file_system_is_no_name(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "missing") == ""


def test_a_container_is_known_by_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / ".dockerenv"
    mark.touch()
    monkeypatch.setattr(placement, "_CONTAINER_MARKS", (mark,))
    assert placement.is_container()
