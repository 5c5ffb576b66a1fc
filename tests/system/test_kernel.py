"""Kills for lack of memory are counted in the control group of the process, of either version."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqltelemetry.system.kernel import UNKNOWN, boot_id, find_oom_counter, read_oom_kills

_EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
_CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    path = tmp_path / "proc"
    (path / "self").mkdir(parents=True)
    (path / "vmstat").write_text("pgfault 7\noom_kill 11\n")
    return path


def _group(path: Path, name: str, text: str) -> Path:
    path.mkdir(parents=True)
    (path / name).write_text(text)
    return path / name


def test_in_version_2_the_group_counts_in_its_memory_events(tmp_path: Path, proc: Path) -> None:
    root = tmp_path / "cgroup"
    (proc / "self/cgroup").write_text("0::/service.slice/app\n")
    file = _group(root / "service.slice/app", "memory.events", _EVENTS)
    assert find_oom_counter(proc, root) == str(file)
    assert read_oom_kills(str(file)) == 2
    file.write_text(_EVENTS.replace("oom_kill 2", "oom_kill 4"))
    assert read_oom_kills(str(file)) == 4


def test_in_a_container_the_group_is_the_root(tmp_path: Path, proc: Path) -> None:
    root = tmp_path / "cgroup"
    (proc / "self/cgroup").write_text("0::/docker/1234\n")  # not there, seen from within
    file = _group(root, "memory.events", _EVENTS)
    assert find_oom_counter(proc, root) == str(file)


def test_in_version_1_the_group_counts_in_its_oom_control(tmp_path: Path, proc: Path) -> None:
    root = tmp_path / "cgroup"
    (proc / "self/cgroup").write_text("5:cpu:/other\n4:memory:/app\n0::/\n")
    file = _group(root / "memory/app", "memory.oom_control", _CONTROL)
    assert find_oom_counter(proc, root) == str(file)
    assert read_oom_kills(str(file)) == 5


def test_without_a_group_that_counts_the_machine_does(tmp_path: Path, proc: Path) -> None:
    assert find_oom_counter(proc, tmp_path) == str(proc / "vmstat")
    assert read_oom_kills(str(proc / "vmstat")) == 11
    (proc / "self/cgroup").write_text("0::/app\n")
    _group(tmp_path / "app", "memory.events", "low 0\n")  # a kernel without this count
    assert find_oom_counter(proc, tmp_path) == str(proc / "vmstat")


def test_where_nothing_counts_the_number_is_unknown(tmp_path: Path) -> None:
    assert find_oom_counter(tmp_path, tmp_path) == ""
    assert read_oom_kills("") == read_oom_kills(str(tmp_path / "gone")) == UNKNOWN
    assert boot_id(tmp_path) == ""
