"""What is missing without a reason, or there twice, is told; what has a reason is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from aqltelemetry import Monitor, record, time_block
from aqltelemetry.cli import main
from aqltelemetry.filenames import parse
from aqltelemetry.journal.placement import all_roots
from aqltelemetry.verification import Verdict, verify
from servers import recover

_PROGRAM = """
import asyncio, os, signal, sys
from aqltelemetry import monitor, record, time_block

async def main():
    await monitor.start(sys.argv[1], interval_s=0.01, flush_interval_s=0.02, max_file_age_s=0.05)
    for number in range(5):
        for _ in range(100):
            with time_block("x"):
                pass
        record("x", "no number")
        await asyncio.sleep(0.06)
    eval(sys.argv[2])
    await monitor.stop()

asyncio.run(main())
"""
_KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def _verify(directory: Path) -> Sequence[Verdict]:
    return verify(directory, all_roots(str(directory)))


def _record(directory: Path, end: str = "None") -> Verdict:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(directory), end], check=False, timeout=60
    )
    assert done.returncode == (-signal.SIGKILL if end == _KILL else 0)
    return _the_one(directory)


def _the_one(directory: Path) -> Verdict:
    (verdict,) = _verify(directory)
    return verdict


def _files(directory: Path, prefix: str) -> list[Path]:
    return sorted(directory.glob(f"{prefix}.*.csv"))


@pytest.fixture
def stopped(directory: Path) -> Verdict:
    return _record(directory)


def _dropped(verdict: Verdict) -> dict[str, int]:
    return {dropped.reason: dropped.total for dropped in verdict.dropped}


async def test_what_was_recorded_is_what_is_in_the_files(directory: Path) -> None:
    async with Monitor(directory, interval_s=0.01) as mine:
        for _ in range(1_000):
            with time_block("x"):
                pass
        record("x", "no number")  # type: ignore[arg-type]
    verdict = _the_one(directory)
    stats = mine.stats()
    assert (verdict.rows, verdict.accepted) == (stats.published, stats.published)
    assert _dropped(verdict) == stats.dropped
    assert (verdict.state, verdict.problems, verdict.pid) == ("stopped", [], os.getpid())


async def test_of_a_running_process_the_journal_tells_the_rest(directory: Path) -> None:
    async with Monitor(directory, with_runtime=False) as mine:
        for _ in range(10):
            with time_block("x"):
                pass
        await mine.flush()
        for _ in range(20):
            with time_block("x"):
                pass
        verdict = _the_one(directory)
    assert (verdict.rows, verdict.in_journal) == (10, 20)
    assert (verdict.state, verdict.problems) == ("recording", [])


async def test_row_02_drops_outlive_a_kill_and_so_does_their_time(directory: Path) -> None:
    killed = _record(directory, _KILL)
    assert killed.state == "killed, not yet recovered"
    assert (killed.problems, _dropped(killed)) == ([], {"invalid": 5})
    assert killed.in_journal
    await recover(directory)
    verdict = _the_one(directory)
    assert (verdict.rows, verdict.in_journal) == (killed.accepted, 0)
    assert (verdict.state, verdict.problems) == ("killed, and recovered", [])
    assert _dropped(verdict) == {"invalid": 5}
    names = [parse(path.name) for path in _files(directory, "account")]
    assert min(name.from_ns for name in names if name) < verdict.dropped[0].last_ns
    assert verdict.dropped[0].last_ns < max(name.to_ns for name in names if name)


def test_a_file_that_a_reader_removed_is_told_with_its_rows(
    directory: Path, stopped: Verdict
) -> None:
    _files(directory, "duration")[1].unlink()
    verdict = _the_one(directory)
    assert verdict.problems == []
    assert verdict.removed == stopped.rows - verdict.rows > 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_of_segments_that_is_gone_is_told_by_the_next_account(
    directory: Path, stopped: Verdict, number: int
) -> None:
    gone = parse(_files(directory, "account")[number].name)
    assert gone is not None
    for path in directory.glob(f"*.{gone.first:06d}-{gone.last:06d}-*.csv"):
        path.unlink()
    verdict = _the_one(directory)
    assert (verdict.problems, verdict.is_removed_exact) == ([], True)
    assert verdict.removed == stopped.rows - verdict.rows > 0


def test_without_its_own_account_the_next_one_tells(directory: Path, stopped: Verdict) -> None:
    _files(directory, "account")[1].unlink()
    verdict = _the_one(directory)
    assert (verdict.problems, verdict.rows) == ([], stopped.rows)


def test_a_row_that_is_gone_from_a_file_is_a_problem(directory: Path, stopped: Verdict) -> None:
    path = _files(directory, "duration")[1]
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-2]) + b"\n")
    assert len(_the_one(directory).problems) == 1
    assert "1 rows missing in duration" in _the_one(directory).problems[0]


def test_a_row_that_is_there_twice_is_a_problem(directory: Path, stopped: Verdict) -> None:
    path = _files(directory, "duration")[1]
    path.write_bytes(path.read_bytes() + path.read_bytes().split(b"\n")[-2] + b"\n")
    assert "1 rows too many in duration" in _the_one(directory).problems[0]


def test_a_damaged_file_is_a_problem(directory: Path, stopped: Verdict) -> None:
    path = _files(directory, "duration")[1]
    path.write_bytes(path.read_bytes()[:-5])
    assert f"{path.name} is damaged" in _the_one(directory).problems


def test_a_damaged_account_is_a_problem(directory: Path, stopped: Verdict) -> None:
    path = _files(directory, "account")[1]
    path.write_bytes(path.read_bytes().replace(b"accepted,", b"excepted,"))
    assert f"{path.name} is damaged" in _the_one(directory).problems


@pytest.mark.parametrize("prefix", ["duration", "account"])
def test_a_segment_that_is_published_twice_is_a_problem(
    directory: Path, stopped: Verdict, prefix: str
) -> None:
    path = _files(directory, prefix)[1]
    name = parse(path.name)
    assert name is not None
    again = name._replace(from_ns=name.from_ns - 1000)
    (directory / str(again)).write_bytes(path.read_bytes())
    assert _the_one(directory).problems


def test_an_end_that_is_gone_is_a_problem(directory: Path, stopped: Verdict) -> None:
    last = parse(_files(directory, "account")[-1].name)
    assert last is not None
    for path in directory.glob(f"*.{last.first:06d}-{last.last:06d}-*.csv"):
        path.unlink()
    (problem,) = _the_one(directory).problems
    assert problem == "what came last is in no file: its end was removed, or lost"


def test_a_journal_that_is_lost_with_a_killed_process_is_a_problem(directory: Path) -> None:
    _record(directory, _KILL)
    for root in all_roots(str(directory)):
        for path in root.glob("*/*"):
            path.unlink()
    assert _the_one(directory).problems


async def test_a_segment_that_became_unreadable_is_counted(directory: Path) -> None:
    async with Monitor(directory, with_runtime=False, journal_dir=directory / ".j") as mine:
        with time_block("kept"):
            pass
        await mine.flush()
        with time_block("damaged"):
            pass
        (segment, *_) = sorted((directory / ".j").glob("*/*/*.seg"))
        # Not through the mapping, which a cut file would take from under the process.
        with segment.open("r+b") as file:
            file.write(b"rubbish!")
        await mine.flush()
        with time_block("kept"):
            pass
    (verdict,) = verify(directory, all_roots(str(directory), str(directory / ".j")))
    assert mine.stats().dropped == {"unreadable": 1}
    assert (verdict.rows, verdict.unreadable, verdict.problems) == (2, 1, [])


def test_a_forked_childs_drops_are_told_once(directory: Path) -> None:
    program = """
import asyncio, os, sys
from aqltelemetry import Monitor, record, time_block
async def main():
    mine = Monitor(sys.argv[1], with_runtime=False, flush_interval_s=0.05)
    await mine.start()
    if os.fork() == 0:
        for _ in range(70_000):
            with time_block("x"):
                pass
            if _ % 10_000 == 0:
                record("x", "no number")
        os._exit(0)
    os.wait()
    while mine.stats().recovered < 70_000:
        await asyncio.sleep(0.01)
    await mine.stop()
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program, str(directory)], check=True, timeout=60)
    verdicts = _verify(directory)
    assert len(verdicts) == 3
    assert not any(verdict.problems for verdict in verdicts)
    assert sum(verdict.rows for verdict in verdicts) == 70_000
    assert sum(_dropped(verdict).get("invalid", 0) for verdict in verdicts) == 7


@pytest.mark.parametrize("kind", ["pipe", "directory", "link", "endless line"])
def test_what_is_no_file_of_ours_is_damaged_and_never_waited_for_or_followed(
    directory: Path, stopped: Verdict, tmp_path: Path, kind: str
) -> None:
    path = _files(directory, "duration")[1]
    copy = tmp_path / "copy"
    path.rename(copy)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to(copy)
        case _:
            with path.open("wb") as file:
                file.write(copy.read_bytes())
                file.truncate(1 << 30)
    verdict = _the_one(directory)
    assert f"{path.name} is damaged" in verdict.problems
    assert verdict.rows < stopped.rows


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to another user")
def test_root_reads_the_journal_of_another_user_as_it_is(directory: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    program = _PROGRAM.replace(
        "interval_s=0.01,", f"interval_s=0.01, journal_dir={str(journal)!r},", 1
    )
    command = [sys.executable, "-c", program, str(directory), _KILL]
    done = subprocess.run(command, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    for path in (directory, *directory.rglob("*"), *journal.rglob("*")):
        os.chown(path, 65534, 65534)
    found = CliRunner().invoke(main, ["verify", "--journal-dir", str(journal), str(directory)])
    assert found.exit_code == 0, found.output
    assert "killed, not yet recovered" in found.output


def test_a_directory_without_a_recording_is_no_proof(directory: Path) -> None:
    directory.mkdir()
    (directory / "data.csv").write_text("foreign")
    found = CliRunner().invoke(main, ["verify", str(directory)])
    assert (found.exit_code, found.output) == (0, f"{directory}: nothing is recorded there\n")


def test_the_command_ends_with_1_for_what_it_can_not_explain(
    directory: Path, stopped: Verdict
) -> None:
    good = CliRunner().invoke(main, ["verify", str(directory)])
    assert (good.exit_code, good.output.splitlines()[-1]) == (0, "all is explained")
    assert f"{stopped.rows:,} rows" in good.output
    assert "5 invalid" in good.output
    path = _files(directory, "duration")[1]
    path.write_bytes(path.read_bytes()[:-5])
    bad = CliRunner().invoke(main, ["verify", "--quiet", str(directory)])
    assert bad.exit_code == 1
    assert "NOT EXPLAINED" in bad.output
