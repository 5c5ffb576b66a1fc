"""The command `profile` profiles a running process."""

from __future__ import annotations

import json
import pstats
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry.system.clock import monotonic_ns
from controlled_service import recording_service, run_command
from servers import wait_until

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]


def test_a_running_process_is_profiled(directory: Path) -> None:
    with recording_service(directory) as process:
        begun_ns = monotonic_ns()
        result = run_command("profile", "--pid", str(process.pid), "--seconds", "0.5")
        passed_s = (monotonic_ns() - begun_ns) / 1e9
        assert result.exit_code == 0, result.output
        path = directory / f"profiler.{process.pid}.data"
        assert f"{path}: python -m pstats {path}" in result.output
        stats = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
        ((calls, total_s),) = [
            (found[1], found[3]) for (*_, name), found in stats.items() if name == "busy"
        ]
        assert calls > 10
        assert total_s > calls * 0.001
        # All is of the one thread of the program: none of the telemetry's is in it.
        own_s = {str(function): found[2] for function, found in stats.items() if found[2] > 0.1}
        assert sum(found[2] for found in stats.values()) <= 2 * passed_s, own_s
        flames = run_command(
            "profile", "--pid", str(process.pid), "--seconds", "0.2", "--format=speedscope"
        )
        assert "speedscope.json: https://www.speedscope.app" in flames.output, flames.output
        (name,) = directory.glob("*.speedscope.json")
        found = json.loads(name.read_text())
        assert [each["name"] for each in found["profiles"]] == ["MainThread"]
        assert 0.1 <= found["profiles"][0]["endValue"] <= passed_s
        assert "Runner.run" in {frame["name"] for frame in found["shared"]["frames"]}
    assert path.exists()
    assert list((directory / ".control").iterdir()) == []


def test_the_only_process_of_a_directory_is_profiled_without_its_pid(
    directory: Path, tmp_path: Path
) -> None:
    with recording_service(directory) as one:
        result = run_command("profile", str(directory), "--seconds", "0.01")
        assert f"profiler.{one.pid}.data" in result.output
        elsewhere = run_command("profile", str(tmp_path), "--pid", str(one.pid))
        assert elsewhere.exit_code == 1
        assert f"process {one.pid} records into {directory}, not into" in elsewhere.output
        with recording_service(directory) as other:
            several = run_command("profile", "--dir", str(directory), "--seconds", "0.01")
            assert several.exit_code == 2
            pids = ", ".join(map(str, sorted((one.pid, other.pid))))
            assert f"2 processes record into {directory}: choose one of them" in several.output
            assert f"--pid: {pids}" in several.output
    nobody = run_command("profile", str(directory))
    assert nobody.exit_code == 1
    assert f"no process records into {directory}" in nobody.output


def test_a_profile_that_fails_says_why(directory: Path) -> None:
    with recording_service(directory, "import sys; sys.setprofile(lambda *_: None)") as process:
        result = run_command("profile", "--pid", str(process.pid), "--seconds", "0.01")
    assert result.exit_code == 1
    assert re.search(r"process \d+: a profiler is active already: .*lambda", result.output)


def test_a_process_that_ends_during_its_profile_is_an_error(directory: Path) -> None:
    with recording_service(directory) as process:
        command = (sys.executable, "-m", "aqltelemetry", "profile", "--pid", str(process.pid))
        asking = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: bool(list(directory.glob(".control/*asked"))), "the question")
        again = run_command("profile", "--pid", str(process.pid))
        assert "is being profiled already" in again.output
        process.kill()
        process.wait()
        _, errors = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert "it ended in the meantime" in errors


def test_a_process_that_does_not_record_cannot_be_profiled() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        result = run_command("profile", "--pid", str(process.pid))
    finally:
        process.kill()
        process.wait()
    assert result.exit_code == 1
    assert f"aqltelemetry doctor --pid {process.pid}" in result.output
    gone = run_command("profile", "--pid", str(process.pid))
    assert f"there is no process {process.pid}" in gone.output
