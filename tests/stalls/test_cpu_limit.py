"""The limit of a control group is found, in both versions, where the process has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqltelemetry.stalls.cpu_limit import throttling_file


@pytest.mark.parametrize(
    ("own", "group", "limit"),
    [
        ("0::/app/worker", "app", ("cpu.max", "50000 100000")),
        ("0::/app/worker", "", ("cpu.max", "50000 100000")),
        ("0::/elsewhere", "unified", ("cpu.max", "50000 100000")),
        ("1:cpu:/app", "cpu/app", ("cpu.cfs_quota_us", "50000")),
        ("4:cpuacct,cpu:/app", "cpu,cpuacct/app", ("cpu.cfs_quota_us", "50000")),
    ],
)
def test_the_innermost_group_with_a_limit_is_found(
    tmp_path: Path, own: str, group: str, limit: tuple[str, str]
) -> None:
    mounts = tmp_path / "groups"
    (mounts / group).mkdir(parents=True)
    name, text = limit
    (mounts / group / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(f"7:memory:/x\n{own}\n")
    found = throttling_file(str(tmp_path / "own"), str(mounts))
    assert found == str(mounts / group / "cpu.stat")


@pytest.mark.parametrize("text", ["max 100000", "-1", "", "\n"])
def test_a_group_without_a_limit_is_not_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    (tmp_path / "own").write_text("0::/\n")
    assert throttling_file(str(tmp_path / "own"), str(tmp_path)) is None


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert throttling_file(str(tmp_path / "missing"), str(tmp_path)) is None
    (tmp_path / "own").write_text("nonsense\n1:cpu:/app\n")
    assert throttling_file(str(tmp_path / "own"), str(tmp_path)) is None
