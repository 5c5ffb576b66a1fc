"""What killed processes left is published by a command, as by a monitor."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry import TelemetryDB
from aqltelemetry.audit.verify import verify
from aqltelemetry.commands.cli import main
from aqltelemetry.journal.location import all_roots
from aqltelemetry.sinks import stall_details

Counts = Callable[[], Counter[str]]
_PROGRAM = """
import asyncio, os, sys
from aqltelemetry import monitor, time_block
async def main():
    await monitor.start(sys.argv[1], with_runtime=False)
    for _ in range(int(sys.argv[2])):
        with time_block("x"):
            pass
    if len(sys.argv) > 3:
        print("recorded", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def _kill(directory: Path, count: int) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(directory), str(count)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9


def _recover(directory: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["recover", str(directory), *options])


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _left(directory: Path) -> list[Path]:
    return [path for root in all_roots(str(directory)) for path in root.rglob("*")]


def test_a_dry_run_counts_and_changes_nothing(directory: Path) -> None:
    _kill(directory, 100)
    before = _left(directory)
    done = _recover(directory, "--dry-run")
    assert (done.exit_code, _left(directory)) == (0, before)
    assert "with 100 observations\n0 recording processes" in done.output


def test_everything_is_published_once_and_a_second_run_finds_nothing(
    directory: Path, counts: Counts
) -> None:
    for _ in range(3):
        _kill(directory, 40_000)
    done = _recover(directory)
    assert (done.exit_code, _left(directory)) == (0, [])
    (recovered,) = map(_number, re.findall("recovered (.*) observations", done.output))
    # On a busy machine the next segment may not be ready in time.
    dropped = int(TelemetryDB(directory).dropped().sum())
    assert recovered + dropped == 120_000
    assert recovered > 60_000
    files = sorted(directory.iterdir())
    again = _recover(directory)
    assert "recovered 0 observations" in again.output
    assert (sorted(directory.iterdir()), counts()) == (files, {"x": recovered})
    assert not any(verdict.problems for verdict in verify(directory, ()))


def test_row_04_many_recoverers_at_once_publish_once(directory: Path, counts: Counts) -> None:
    for _ in range(4):
        _kill(directory, 1_000)
    command = [sys.executable, "-m", "aqltelemetry", "recover", str(directory)]
    racing = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [each.wait(60) for each in racing] == [0] * 4
    assert (counts(), _left(directory)) == ({"x": 4_000}, [])


def test_the_option_wait_recovers_processes_that_still_run(directory: Path, counts: Counts) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(directory), "10", "alive"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        assert "1 recording process\n" in _recover(directory, "--dry-run").output
        assert "recovered 0 observations" in _recover(directory).output
        waiting = subprocess.Popen(
            [sys.executable, "-m", "aqltelemetry", "recover", "--wait", str(directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stdout is not None
        waiting.stdout.readline()
        process.stdin.close()
        output = waiting.stdout.read()  # not communicate, which misses what readline has buffered
        waiting.stdout.close()
        assert waiting.wait(60) == 0
    assert "waiting for the end of 1 recording process\n" in output
    assert "recovered 10 observations" in output
    assert counts() == {"x": 10}


def test_the_journal_is_kept_if_the_directory_is_not_writable(
    directory: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    program = _PROGRAM.replace(
        "with_runtime=False", f"with_runtime=False, journal_dir={str(journal)!r}"
    )
    subprocess.run([sys.executable, "-c", program, str(directory), "10"], check=False, timeout=60)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    directory.symlink_to("/proc")
    done = _recover(directory, "--journal-dir", str(journal))
    assert done.exit_code == 3
    assert list(journal.rglob("*.seg"))


def test_a_damaged_segment_is_set_aside_and_ends_the_command_with_status_3(
    directory: Path, counts: Counts
) -> None:
    _kill(directory, 100)
    segments = [path for root in all_roots(str(directory)) for path in root.rglob("*.seg")]
    segments[0].write_bytes(b"rubbish!" * 100)
    done = _recover(directory)
    assert done.exit_code == 3
    assert "1 damaged segment set aside, as *.bad in the journal" in done.output
    assert [path for path in _left(directory) if path.suffix == ".bad"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_root_becomes_the_owner_with_as_owner_and_is_refused_without(
    directory: Path, tmp_path: Path
) -> None:
    directory.mkdir()
    os.chown(directory, 65534, 65534)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o77 == 0:
            path.chmod(0o711)
    done = _recover(directory)
    assert done.exit_code == 1
    assert "belongs to user 65534" in done.output
    command = [
        sys.executable,
        "-m",
        "aqltelemetry",
        "recover",
        "--as-owner",
        "--dry-run",
        str(directory),
    ]
    assert subprocess.run(command, check=False, capture_output=True, cwd="/").returncode == 0


def test_the_whole_lines_of_the_details_of_stalls_are_published(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    detail = {"version": 1, "begin_ns": 1, "end_ns": 2, "length_s": 1e-9, "pid": 1}
    whole = json.dumps({**detail, "writer": "00112233445566aa", "cause": "no CPU"}) + "\n"
    left = directory / stall_details.temporary("00112233445566aa", 1)
    left.write_text(whole + whole[:20])
    assert _recover(directory).exit_code == 0
    assert not left.exists()
    (published,) = directory.glob("stall-details.*.jsonl")
    assert published.read_text() == whole
