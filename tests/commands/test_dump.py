"""The command `dump`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.dumps import kept
from aqltelemetry.dumps.watch import Job
from controlled_service import run_command


async def _labels(path: str) -> set[str]:
    return set(TelemetryDB(path).duration().data()["Label"])


@pytest.mark.system
async def test_a_dump_is_made_and_its_path_printed(five_requests: Path) -> None:
    command = [sys.executable, "-m", "aqltelemetry", "dump", str(five_requests)]
    command += ["--last", "5m", "--reason", "before the release"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (dump,) = kept.find(str(five_requests))
    assert done.stdout == f"made {dump.path}\naqltelemetry report {dump.path}\n"
    assert dump.path.endswith("Z-before-the-release")
    assert await _labels(dump.path) == {"/a [GET]"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--last", "soon"), "--last 'soon' must be a time of at most 7 days, such as 5m"),
        (("--last", "0s"), "--last '0s' must be a time"),
        (("--when", "lag < 1s"), "'lag < 1s' is no condition"),
    ],
)
async def test_wrong_options_are_refused(
    five_requests: Path, arguments: tuple[str, ...], error: str
) -> None:
    result = run_command("dump", str(five_requests), *arguments)
    assert result.exit_code == 2
    assert error in " ".join(result.output.split())


async def test_a_dump_that_cannot_be_made_is_an_error_in_a_line(
    five_requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aqltelemetry.dumps.making.make", refuse)
    result = run_command("dump", str(five_requests))
    assert result.exit_code == 1
    assert result.output == "Error: no dump can be made: [Errno 13] Permission denied\n"


@pytest.mark.parametrize(("size", "is_kept"), [("1m", False), ("64m", True)])
async def test_how_much_is_kept_of_older_dumps_comes_from_the_environment(
    five_requests: Path, monkeypatch: pytest.MonkeyPatch, size: str, *, is_kept: bool
) -> None:
    older = five_requests / "dumps" / "20260101T000000Z-older"
    older.mkdir(parents=True)
    (older / "file").write_bytes(bytes(2 << 20))
    monkeypatch.setenv("AQLTELEMETRY_KEEP_DUMP_BYTES", size)
    result = await asyncio.to_thread(run_command, "dump", str(five_requests))
    assert result.exit_code == 0
    assert len(kept.find(str(five_requests))) == 1 + is_kept
    assert older.exists() == is_kept


async def test_a_command_that_watches_keeps_as_much_as_the_environment_says(
    five_requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []

    def stop(job: Job) -> None:
        jobs.append(job)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aqltelemetry.dumps.watch.Watch", stop)
    monkeypatch.setenv("AQLTELEMETRY_KEEP_DUMP_BYTES", "3m")
    run_command("dump", str(five_requests), "--when", "killed")
    assert [job.keep_bytes for job in jobs] == [3 << 20]
