"""Observations that are missing or duplicated without a reason are found."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry import Monitor, record, time_block
from aqltelemetry.audit.verify import Verdict, verify
from aqltelemetry.commands.cli import main
from aqltelemetry.journal.location import all_roots
from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.sinks.file_names import FileName, parse
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system.clock import epoch_ns
from servers import recover

_PROGRAM = """
import asyncio, os, signal, sys
from aqltelemetry import monitor, record, time_block

async def main():
    await monitor.start(sys.argv[1], interval_s=0.01, flush_interval_s=60)
    for number in range(5):
        for _ in range(100):
            with time_block("x"):
                pass
        record("x", "no number")
        await asyncio.sleep(0.02)
        await monitor.flush()
    with time_block("last"):
        pass
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


async def test_the_files_contain_what_was_recorded(directory: Path) -> None:
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


async def test_the_journal_of_a_running_process_counts(directory: Path) -> None:
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


def test_the_rows_of_a_file_that_a_reader_removed_are_unaccounted(
    directory: Path, stopped: Verdict
) -> None:
    _files(directory, "duration")[1].unlink()
    verdict = _the_one(directory)
    assert verdict.problems == []
    assert verdict.removed == verdict.unaccounted == stopped.rows - verdict.rows > 0
    assert not verdict.is_accounted_for


@pytest.mark.parametrize("number", [0, 1])
def test_the_next_account_shows_a_missing_run_of_segments(
    directory: Path, stopped: Verdict, number: int
) -> None:
    gone = parse(_files(directory, "account")[number].name)
    assert gone is not None
    for path in directory.glob(f"*.{gone.first:06d}-{gone.last:06d}-*.csv"):
        path.unlink()
    verdict = _the_one(directory)
    assert (verdict.problems, verdict.is_removed_exact) == ([], True)
    assert verdict.removed == verdict.unaccounted == stopped.rows - verdict.rows > 0


def test_the_next_account_stands_in_for_a_missing_one(directory: Path, stopped: Verdict) -> None:
    _files(directory, "account")[1].unlink()
    verdict = _the_one(directory)
    assert (verdict.problems, verdict.rows) == ([], stopped.rows)


def test_a_row_missing_from_a_file_is_a_problem(directory: Path, stopped: Verdict) -> None:
    path = _files(directory, "duration")[1]
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-2]) + b"\n")
    assert len(_the_one(directory).problems) == 1
    assert "1 row missing in duration" in _the_one(directory).problems[0]


def test_a_duplicate_row_is_a_problem(directory: Path, stopped: Verdict) -> None:
    path = _files(directory, "duration")[1]
    path.write_bytes(path.read_bytes() + path.read_bytes().split(b"\n")[-2] + b"\n")
    assert "1 row too many in duration" in _the_one(directory).problems[0]


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


def test_missing_last_files_are_a_problem(directory: Path, stopped: Verdict) -> None:
    last = parse(_files(directory, "account")[-1].name)
    assert last is not None
    for path in directory.glob(f"*.{last.first:06d}-{last.last:06d}-*.csv"):
        path.unlink()
    (problem,) = _the_one(directory).problems
    assert problem == "the last observations are in no file: it was removed or lost"


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


def test_the_drops_of_a_forked_child_count_once(directory: Path) -> None:
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
def test_a_foreign_file_counts_as_damaged_and_is_neither_waited_for_nor_followed(
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
def test_root_can_verify_the_recording_of_another_user(directory: Path, tmp_path: Path) -> None:
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


def test_a_directory_without_a_recording_is_reported(directory: Path) -> None:
    directory.mkdir()
    (directory / "data.csv").write_text("foreign")
    found = CliRunner().invoke(main, ["verify", str(directory)])
    assert (found.exit_code, found.output) == (0, f"{directory}: nothing is recorded there\n")


def test_the_command_ends_with_status_1_for_problems(directory: Path, stopped: Verdict) -> None:
    good = CliRunner().invoke(main, ["verify", str(directory)])
    assert (good.exit_code, good.output.splitlines()[-1]) == (0, "all is explained")
    assert f"{stopped.rows:,} rows; 5 dropped" in good.output
    assert "5 invalid" in good.output
    path = _files(directory, "duration")[1]
    path.write_bytes(path.read_bytes()[:-5])
    bad = CliRunner().invoke(main, ["verify", "--quiet", str(directory)])
    assert bad.exit_code == 1
    assert "NOT EXPLAINED" in bad.output


def _run_verify(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def _sweep(directory: Path, *, gone: int) -> None:
    """Let retention remove the files of the oldest `gone` generations."""
    accounts = _files(directory, "account")
    last = parse(accounts[gone - 1].name)
    assert last is not None
    sweeper = Retention(str(directory), 1 << 40, 10, lambda: last.to_ns + 10**10 + 1)
    sweeper.sweep()
    assert _files(directory, "account")[:-1] == accounts[gone:]  # and the one of removals


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_files_that_retention_removed_are_accounted_for(
    directory: Path, stopped: Verdict, gone: int
) -> None:
    _sweep(directory, gone=gone)
    verdict = _the_one(directory)
    assert (verdict.problems, verdict.unaccounted, verdict.is_accounted_for) == ([], 0, True)
    assert verdict.removed == stopped.rows - verdict.rows > 0
    assert verdict.retired["duration"] == gone
    found = _run_verify(directory)
    assert (found.exit_code, found.output.splitlines()[-1]) == (0, "all is explained")
    assert f"{verdict.removed:,} in files that retention removed" in found.output
    assert f"retention removed of its files: {gone} duration" in found.output


@pytest.mark.parametrize("which", ["data", "data and account"])
@pytest.mark.parametrize("gone", [0, 1, 2])
def test_other_missing_files_are_counted_exactly(
    directory: Path, stopped: Verdict, gone: int, which: str
) -> None:
    lost = _files(directory, "duration")[3]
    name, rows = parse(lost.name), lost.read_bytes().count(b"\n") - 1
    assert name is not None
    lost.unlink()
    if which == "data and account":
        for path in directory.glob(f"*.{name.first:06d}-{name.last:06d}-*.csv"):
            rows += 0 if path.name.startswith("account") else path.read_bytes().count(b"\n") - 1
            path.unlink()
    if gone:
        _sweep(directory, gone=gone)
    verdict = _the_one(directory)
    assert (verdict.problems, verdict.unaccounted) == ([], rows)
    assert verdict.removed == stopped.rows - verdict.rows
    found = _run_verify(directory)
    assert found.exit_code == 3
    assert f"{rows:,} in files that are gone without an account" in found.output
    assert "no account says that retention removed them" in found.output
    accepted = _run_verify("--readers-delete", directory)
    assert (accepted.exit_code, accepted.output.splitlines()[-1]) == (0, "all is explained")


def test_readers_delete_does_not_accept_problems(directory: Path, stopped: Verdict) -> None:
    path = _files(directory, "duration")[1]
    path.write_bytes(path.read_bytes()[:-5])
    assert _run_verify("--readers-delete", directory).exit_code == 1


def test_accounts_of_an_earlier_version_leave_the_removed_files_unknown(
    directory: Path, stopped: Verdict
) -> None:
    """Its accounts count the files that retention removed, and do not name them."""
    _files(directory, "duration")[0].unlink()
    last = _files(directory, "account")[-1]
    row = last.read_bytes().split(b"\n")[1].split(b",")
    last.write_bytes(last.read_bytes() + b"%s,1,files removed,%s\n" % (row[0], row[3]))
    found = _run_verify(directory)
    assert found.exit_code == 3
    assert "an account of an earlier version counts 1 file that retention removed" in found.output


def test_removals_by_other_processes_count(directory: Path, stopped: Verdict) -> None:
    _sweep(directory, gone=1)
    (first,) = (path for path in _files(directory, "account") if ".000000-000000-" in path.name)
    last = parse(_files(directory, "account")[-2].name)
    assert last is not None
    # Another process, much later, removes all but one file, and the account of removals too.
    kept = _files(directory, "runtime")[-1]
    kept.rename(kept.with_suffix(".kept"))
    Retention(str(directory), 1 << 40, 10, lambda: epoch_ns() + 10**11).sweep()
    assert not first.exists()
    kept.with_suffix(".kept").rename(kept)
    verdict = _the_one(directory)
    assert (verdict.state, verdict.problems) == ("end removed by retention", [])
    assert verdict.is_accounted_for


@pytest.mark.parametrize("rubbish", [b"", b"\xff", b"Timepoint\n1,x,removed a b 1-x,1\n1,2\n"])
def test_a_damaged_account_of_removals_explains_nothing(
    directory: Path, stopped: Verdict, rubbish: bytes
) -> None:
    _sweep(directory, gone=1)
    (account,) = (path for path in _files(directory, "account") if ".000000-000000-" in path.name)
    account.write_bytes(rubbish)
    assert _run_verify(directory).exit_code == 3


def test_missing_segments_between_accounts_are_counted_exactly(directory: Path) -> None:
    """As if a sink had lost a batch between others."""
    writer, at_ns = "1" * 16, epoch_ns()

    def publish(first: int, last: int, before: int) -> None:
        numbers = f"{last - first + 1},accepted\n{before},accepted before\n"
        numbers += f"{last - first + 1},rows custom\n1,files custom\n"
        for prefix, lines in (
            ("custom", "1,x\n" * (last - first + 1)),
            ("account", numbers + ("0,end\n" if last == 60 else "")),
        ):
            name = FileName(prefix, at_ns, at_ns + 1000, 7, writer, first, last, 0)
            text = "".join(f"{at_ns},{line},7\n" for line in lines.splitlines())
            (directory / str(name)).write_bytes(CSV_HEADER + text.encode())

    directory.mkdir()
    publish(1, 40, 0)
    publish(45, 60, 44)
    verdict = _the_one(directory)
    assert (verdict.accepted, verdict.rows, verdict.unaccounted) == (60, 56, 4)
    assert _run_verify(directory).exit_code == 3


def test_an_account_of_removals_may_be_compressed(directory: Path, stopped: Verdict) -> None:
    _sweep(directory, gone=1)
    for path in _files(directory, "account"):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert _run_verify(directory).exit_code == 0
