from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aqltelemetry.journal import location
from aqltelemetry.journal.location import (
    MEMORY,
    UnsuitableLocationError,
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


def test_a_directory_in_memory_has_its_journal_next_to_it(
    tmp_path: Path, mounts: Path, shm: Path
) -> None:
    directory = shm / "monitoring"
    directory.mkdir()
    assert _root(directory, mounts, shm) == directory / ".journal"


def test_without_a_memory_file_system_the_journal_is_next_to_the_files(
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
    with pytest.raises(UnsuitableLocationError, match=kind):
        _root(data, _mounts(tmp_path, {"/": kind}), shm)


def test_recording_in_memory_may_be_asked_for(data: Path) -> None:
    with pytest.raises(UnsuitableLocationError, match="memory"):
        journal_root(str(data), MEMORY)


def test_a_planted_link_is_not_followed(
    data: Path, mounts: Path, shm: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (shm / f"aqltelemetry-{os.geteuid()}").symlink_to(victim)
    with pytest.raises(UnsuitableLocationError, match="no link"):
        _root(data, mounts, shm)
    assert list(victim.iterdir()) == []


def test_a_directory_that_others_may_write_to_is_refused(
    data: Path, mounts: Path, shm: Path
) -> None:
    planted = shm / f"aqltelemetry-{os.geteuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(UnsuitableLocationError, match="no other may write"):
        _root(data, mounts, shm)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(data: Path, mounts: Path, shm: Path) -> None:
    planted = shm / f"aqltelemetry-{os.geteuid()}"
    planted.mkdir(mode=0o700)
    os.chown(planted, 65534, 65534)
    with pytest.raises(UnsuitableLocationError, match="belong to this user"):
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


_ODD_NAMES = [
    b"caf\xc3\xa9",
    b"caf\xe9",  # Latin-1: no UTF-8
    b"\xff\xfe",
    b"a b",
    b"tab\t",
    b"new\nline",
    b"back\\slash",
    b"\\040",
    b"\xe2\x80\xa8",  # a line separator, of Unicode alone
    b"\x85\x0b\x0c\x1c",
    b" - nfs",
    b"#\x7f",
]


def _table(path: Path, points: Mapping[bytes, bytes]) -> Path:
    """Write a mount table as the kernel does: bytes, of which it escapes these four."""
    lines = []
    for number, (point, kind) in enumerate(points.items(), 20):
        escaped = re.sub(rb"[\\ \t\n]", lambda match: b"\\%03o" % ord(match[0]), point)
        lines.append(b"%d 1 0:9 / %s rw shared:1 - %s dev rw\n" % (number, escaped, kind))
    path.write_bytes(b"".join(lines))
    return path


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_a_mount_point_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    point = b"/mnt/" + name
    mounts = _table(tmp_path / "mountinfo", {b"/": b"ext4", point: b"nfs4", b"/last": b"tmpfs"})
    assert file_system(Path(os.fsdecode(point + b"/data")), mounts) == "nfs4"
    assert file_system(Path(os.fsdecode(point)), mounts) == "nfs4"
    assert file_system(Path(os.fsdecode(point + b"x")), mounts) == "ext4"
    assert file_system(Path("/last/data"), mounts) == "tmpfs"


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_a_mount_point_of_any_name_elsewhere_changes_nothing(
    data: Path, tmp_path: Path, shm: Path, name: bytes
) -> None:
    points = {b"/": b"ext4", os.fsencode(shm): b"tmpfs", b"/else/" + name: b"nfs"}
    mounts = _table(tmp_path / "mountinfo", points)
    assert _root(data, mounts, shm).parent.parent == shm


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_the_journal_of_a_directory_of_any_name_is_private_and_recovery_finds_it(
    tmp_path: Path, mounts: Path, shm: Path, name: bytes
) -> None:
    directory = tmp_path / os.fsdecode(name)
    for container in (False, True):
        root = _root(directory, mounts, shm, container=container)
        assert root in all_roots(str(directory), shm=shm)


@pytest.mark.parametrize(
    "line", [b"", b"-", b" - ", b"1 2 3 4", b"\xff\xff", b"20 1 0:9 / /data", b"x" * 9999]
)
def test_a_line_of_the_mount_table_that_can_not_be_read_is_skipped(
    tmp_path: Path, line: bytes
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(line + b"\n20 1 0:9 / /mnt rw - nfs dev rw\n" + line)
    assert file_system(Path("/mnt/x"), mounts) == "nfs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("name", [b"caf\xe9 x", b"new\nline\\"])
def test_the_mount_table_of_this_kernel_is_understood(tmp_path: Path, name: bytes) -> None:
    point = tmp_path / os.fsdecode(name)
    point.mkdir()
    script = 'mount -t tmpfs none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "sh", "-c", script]
    program = (
        "import sys; from pathlib import Path\n"
        "from aqltelemetry.journal.location import file_system\n"
        "assert file_system(Path(sys.argv[1]) / 'x') == 'tmpfs'"
    )
    done = subprocess.run(
        [*command, "sh", point, sys.executable, program], capture_output=True, check=False
    )
    if b"unshare" in done.stderr or b"mount" in done.stderr.split(b"\n")[0]:
        pytest.skip("this root may not mount")
    assert done.returncode == 0, done.stderr


def test_an_unknown_file_system_is_no_name(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "missing") == ""


def test_a_container_is_recognised_by_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".dockerenv"
    file.touch()
    monkeypatch.setattr(location, "_CONTAINER_FILES", (file,))
    assert location.is_container()
