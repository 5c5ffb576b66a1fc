"""Other processes publish what a killed process recorded: all of it, once, under its PID."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry import Monitor, time_block
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.dead_writers import BAD_SUFFIX
from aqltelemetry.journal.format import RECORDS_AT, SEGMENT_BYTES, unpack_header
from aqltelemetry.journal.location import all_roots
from aqltelemetry.journal.salvage import UNKNOWN_PID
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.runtime.recovery import Recovery
from aqltelemetry.system import syscalls
from fakes import FakeClock, writer_options
from published_names import is_published
from servers import recover

Rows = Callable[..., list[dict[str, str]]]

# The process reports each observation to its parent, in order, after it was recorded. All
# observations that were reported before the kill must be found.
_WITNESSED = """
import asyncio, os, sys, threading
from aqltelemetry import monitor, record

def work(thread):
    number = 0
    while True:
        record(str(thread), number)
        os.write(1, b"%d/%d\\n" % (thread, number))
        number += 1

async def main():
    await monitor.start(sys.argv[1], with_runtime=False, flush_interval_s=0.1, max_file_age_s=0.2)
    for thread in range(int(sys.argv[2])):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def _kill_after(directory: Path, lines: int, threads: int = 1) -> tuple[int, Counter[str]]:
    """Kill a recording process after so many lines; return its PID and all lines it wrote."""
    with subprocess.Popen(
        [sys.executable, "-c", _WITNESSED, str(directory), str(threads)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        reported = [process.stdout.readline() for _ in range(lines)]
        os.kill(process.pid, signal.SIGKILL)
        reported += process.stdout.readlines()
    return process.pid, Counter(line.decode().strip() for line in reported if line.endswith(b"\n"))


def _names(rows: list[dict[str, str]]) -> Counter[str]:
    """Return the observations in the form in which the process reported them."""
    return Counter(f"{row['Label']}/{float(row['Measurement']):.0f}" for row in rows)


def _check(reported: Counter[str], found: Counter[str], threads: int) -> None:
    assert reported - found == Counter(), "lost"
    # Between recording and reporting, each thread may have been killed once.
    assert (found - reported).total() <= threads, "duplicated, or never recorded"
    assert max(found.values()) == 1


@pytest.mark.system
@pytest.mark.parametrize("lines", [1, 10, 1_000, 20_000])
async def test_a_killed_process_loses_and_duplicates_nothing(
    directory: Path, rows: Rows, lines: int
) -> None:
    pid, reported = _kill_after(directory, lines)
    await recover(directory)
    found = rows("custom")
    _check(reported, _names(found), 1)
    assert {row["PID"] for row in found} == {str(pid)}
    # What it was writing when it was killed is removed later.
    assert all(is_published(path.name) or path.suffix == ".tmp" for path in directory.rglob("*"))


@pytest.mark.system
async def test_many_threads_that_are_killed_repeatedly_lose_nothing(
    directory: Path, rows: Rows
) -> None:
    total: Counter[tuple[int, str]] = Counter()
    for number in range(8):
        pid, reported = _kill_after(directory, 200 * number + 1, threads=4)
        total.update({(pid, label): count for label, count in reported.items()})
    await recover(directory)
    found = Counter((int(row["PID"]), name) for row in rows("custom") for name in _names([row]))
    assert total - found == Counter()
    assert (found - total).total() <= 8 * 4
    assert max(found.values()) == 1


async def test_a_running_monitor_publishes_what_its_killed_sibling_left(
    directory: Path, rows: Rows
) -> None:
    async with Monitor(directory, with_runtime=False, flush_interval_s=0.1) as mine:
        pid, reported = await asyncio.to_thread(_kill_after, directory, 50)
        async with asyncio.timeout(60):
            while not mine.stats().recovered:
                await asyncio.sleep(0.01)
    _check(reported, _names(rows("custom")), 1)
    assert {row["PID"] for row in rows("custom")} == {str(pid)}


async def test_the_journal_of_a_living_process_is_not_recovered(
    directory: Path, rows: Rows
) -> None:
    """However long the process lives, and whichever others run meanwhile."""
    program = """
import asyncio, sys
from aqltelemetry import Monitor, time_block
async def main():
    async with Monitor(sys.argv[1], with_runtime=False):
        with time_block("mine"):
            pass
        print("recorded", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        async with Monitor(directory, with_runtime=False, flush_interval_s=0.01) as other:
            with time_block("other"):
                pass
            await other.flush()
            assert [row["Label"] for row in rows()] == ["other"]
        process.communicate(timeout=60)
    assert sorted(row["Label"] for row in rows()) == ["mine", "other"]


@pytest.mark.system
async def test_two_simultaneous_recoveries_publish_once(directory: Path, rows: Rows) -> None:
    reported: Counter[str] = Counter()
    for _ in range(3):
        reported += _kill_after(directory, 100)[1]
    program = """
import asyncio, sys
from aqltelemetry import Monitor
async def main():
    async with Monitor(sys.argv[1], with_runtime=False):
        await asyncio.sleep(0.2)
asyncio.run(main())
"""
    others = [subprocess.Popen([sys.executable, "-c", program, str(directory)]) for _ in range(4)]
    assert [other.wait(60) for other in others] == [0] * 4
    await recover(directory)
    found = _names(rows("custom"))
    assert reported - found == Counter()
    assert (found - reported).total() <= 3


@pytest.mark.parametrize("is_alone", [False, True])
@pytest.mark.parametrize("damage", ["header", "all"])
async def test_row_30_a_damaged_segment_is_salvaged_and_set_aside(
    directory: Path, rows: Rows, damage: str, is_alone: bool
) -> None:
    """The writer's other segments name its process; if there are none, it is unknown."""
    pid, reported = _kill_after(directory, 2_000)
    roots = [root for root in all_roots(str(directory)) if root.exists()]
    segments = sorted(path for root in roots for path in root.glob("*/*.seg"))
    used = max(path for path in segments if any(path.read_bytes()[RECORDS_AT:]))
    spare = used.with_name("999999.seg")
    header = unpack_header(used.read_bytes())._replace(sequence=999_999)
    spare.write_bytes(header.pack().ljust(SEGMENT_BYTES, b"\0"))
    with used.open("r+b") as file:
        file.write(b"rubbish!" if damage == "header" else bytes(SEGMENT_BYTES))
    if is_alone:
        for other in {spare, *segments} - {used}:
            other.unlink()
    async with Monitor(directory, with_runtime=False), asyncio.timeout(60):
        while used.exists():
            await asyncio.sleep(0.01)
    (bad,) = (path for root in roots for path in root.glob(f"*{BAD_SUFFIX}"))
    assert bad.stat().st_size
    found = _names(rows("custom"))
    owner = UNKNOWN_PID if is_alone else pid
    if damage == "header":
        _check(reported, found, 1)
        assert {row["PID"] for row in rows("custom")} == {str(owner)}
    else:
        assert found <= reported
    (verdict,) = (each for each in verify(directory, roots) if each.pid == owner)
    assert (verdict.damaged_segments, verdict.problems) == (1, [])


@pytest.mark.parametrize("kind", ["pipe", "directory", "link", "other name"])
async def test_row_44_foreign_entries_of_the_journal_are_not_followed(
    directory: Path, rows: Rows, tmp_path: Path, kind: str
) -> None:
    _, reported = _kill_after(directory, 100)
    (root,) = (root for root in all_roots(str(directory)) if root.exists())
    (writer,) = root.iterdir()
    planted = writer / "000099.seg"
    victim = tmp_path / "victim"
    victim.write_bytes(b"secret")
    match kind:
        case "pipe":
            os.mkfifo(planted)
        case "directory":
            planted.mkdir()
        case "link":
            planted.symlink_to(victim)
        case _:
            planted.hardlink_to(victim)
    async with Monitor(directory, with_runtime=False), asyncio.timeout(60):
        while [*writer.glob("*.seg")]:
            await asyncio.sleep(0.01)
    _check(reported, _names(rows("custom")), 1)
    assert victim.read_bytes() == b"secret"
    assert os.path.lexists(root / f"{writer.name}-000099{BAD_SUFFIX}")


@pytest.mark.system
async def test_what_a_killed_recovery_left_is_recovered(directory: Path, rows: Rows) -> None:
    _, reported = _kill_after(directory, 5_000)
    program = """
import asyncio, os, signal, sys
from aqltelemetry import Monitor
from aqltelemetry.sinks import csv_file
publish = csv_file.publish
def killed(directory, publications, with_fsync):
    if sys.argv[2] == "after":
        publish(directory, publications)
    os.kill(os.getpid(), signal.SIGKILL)
csv_file.publish = killed
async def main():
    async with Monitor(sys.argv[1], with_runtime=False):
        await asyncio.sleep(3600)
asyncio.run(main())
"""
    for moment in ("before", "after", "after", "before"):
        killed = subprocess.run(
            [sys.executable, "-c", program, str(directory), moment], check=False, timeout=60
        )
        assert killed.returncode == -signal.SIGKILL
    await recover(directory)
    _check(reported, _names(rows("custom")), 1)


async def test_a_kill_between_publication_and_removal_leaves_no_duplicate(
    directory: Path, rows: Rows
) -> None:
    """The process published several segments in one file; they are recovered one by one."""
    program = """
import asyncio, os, signal, sys
from aqltelemetry import Monitor, time_block
from aqltelemetry.sinks import csv_file
publish = csv_file.publish
def killed(directory, publications, with_fsync):
    publish(directory, publications)
    os.kill(os.getpid(), signal.SIGKILL)
csv_file.publish = killed
async def main():
    mine = Monitor(sys.argv[1], with_runtime=False, flush_interval_s=0.02)
    await mine.start()
    for number in range(5):
        for _ in range(100):
            with time_block(str(number)):
                pass
        await asyncio.sleep(0.1)
    await mine.stop()
asyncio.run(main())
"""
    killed = subprocess.run(
        [sys.executable, "-c", program, str(directory)], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    await recover(directory)
    assert Counter(row["Label"] for row in rows()) == {str(number): 100 for number in range(5)}


def test_row_32_after_many_dead_writers_recovery_pauses_for_nine_times_as_long(
    tmp_path: Path,
) -> None:
    for _ in range(40):
        writer = Writer.in_journal(tmp_path, writer_options())
        for _ in range(2):
            writer.new_segment(yield_gil=lambda: None)
        writer.close()
    clock, handed = FakeClock(1_000), list[SealedSegment]()
    recovery = Recovery([tmp_path], handed.append, clock)
    recovery.scan()
    assert len(handed) == 64
    clock.now_ns += 100
    for sealed in handed[:64]:
        recovery.release(sealed, 0)
    recovery.scan()
    assert len(handed) == 64
    clock.now_ns += 900
    recovery.scan()
    assert len(handed) == 80
    clock.now_ns += 100
    for sealed in handed[64:]:
        recovery.release(sealed, 0)
    assert not list(tmp_path.iterdir())
    recovery.close()


def test_a_journal_that_cannot_be_read_is_logged_once_for_each_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = [errno.EMFILE, errno.EMFILE, errno.EIO, errno.EMFILE]

    def fail(path: Path) -> None:
        number = reasons.pop(0)
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(syscalls, "list_directory", fail)
    recovery = Recovery([tmp_path], lambda _: None)
    while reasons:
        recovery.scan()
    assert len(caplog.records) == 2
