"""Faults around a recording process, by the rows of the matrix in docs/reliability.md.

Rows that are claims of one module are tested with that module; `benchmarks/fault_matrix.py` knows
where each is.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from aqltelemetry import Monitor, record, time_block
from aqltelemetry.audit.verify import Verdict, verify
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.dead_writers import lock_dead_writers
from aqltelemetry.journal.format import SEGMENT_BYTES
from aqltelemetry.journal.labels import MAX_LABELS
from aqltelemetry.journal.location import all_roots
from aqltelemetry.journal.writer import Writer
from aqltelemetry.observation import Batch, SegmentId, clean_label
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.recording import recorder
from aqltelemetry.runtime import assembly, session
from aqltelemetry.system import clock
from directories import remove_at_once
from fakes import MemorySink, writer_options
from fakes import recording as _recording
from figures import rss_bytes, spread
from published_names import is_published
from servers import recover

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]
Property = Callable[[str, object], None]
_FORKS = int(os.environ.get("FORKS", "50"))
_SECONDS = float(os.environ.get("SECONDS", "1"))
_CALLS = int(os.environ.get("CALLS", "20000"))
_ORPHANS = int(os.environ.get("ORPHANS", "400"))
_BLOCKED_S = float(os.environ.get("BLOCKED_S", "1.5"))


def _run(program: str, *arguments: object, code: int = 0, prefix: tuple[str, ...] = ()) -> str:
    """Run a program to its end, which is not to be hung; return what it printed."""
    command = [*prefix, sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, check=False, timeout=100, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout


def _verdicts(directory: Path, journal: Path | None = None) -> list[Verdict]:
    roots = all_roots(str(directory), "auto" if journal is None else str(journal))
    verdicts = list(verify(directory, roots))
    assert [problem for each in verdicts for problem in each.problems] == []
    return verdicts


def _numbers(rows: Rows) -> Counter[int]:
    return Counter(round(float(row["Measurement"])) for row in rows("custom"))


_DIES = """
import asyncio, ctypes, os, resource, signal, sys
from aqltelemetry import monitor, record
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
async def main():
    await monitor.start(sys.argv[1], with_runtime=False)
    for number in range(100):
        record("x", number)
    exec(sys.argv[2])
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("death", "code"),
    [
        ("os._exit(3)", 3),
        ("ctypes.string_at(0)", -signal.SIGSEGV),
        ("os.kill(os.getpid(), signal.SIGABRT)", -signal.SIGABRT),
        ("sys.exit(4)", 4),
    ],
    ids=["_exit", "SIGSEGV", "SIGABRT", "sys.exit"],
)
async def test_row_06_however_a_process_dies_nothing_is_lost(
    directory: Path, rows: Rows, death: str, code: int
) -> None:
    _run(_DIES, directory, death, code=code)
    await recover(directory)
    assert _numbers(rows) == Counter(range(100))
    _verdicts(directory)


def test_row_11_forks_of_a_recording_process_with_threads_hang_nobody(
    directory: Path, rows: Rows, record_property: Property
) -> None:
    """FORKS=1000 for the long run; each child records, and so does the parent meanwhile."""
    record_property("runs", _FORKS)
    program = """
import asyncio, os, statistics, sys, threading
from time import perf_counter_ns
from aqltelemetry import Monitor, record
forks = int(sys.argv[2])
def fork(work):
    begun = perf_counter_ns()
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    times.append(perf_counter_ns() - begun)
    return pid
def median():
    found = statistics.median(times)
    times.clear()
    return found
times = []
def work():
    while not over.is_set():
        record("parent", 1)
        over.wait(0.001)
over = threading.Event()
async def main():
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(forks):
        assert os.waitpid(fork(lambda: None), 0)[1] == 0
        await asyncio.sleep(0)
    without = median()
    mine = Monitor(sys.argv[1], with_runtime=False, flush_interval_s=0.05)
    await mine.start()
    for number in range(forks):
        pid = fork(lambda: record("child", number))
        await asyncio.sleep(0)
        assert os.waitpid(pid, 0)[1] == 0
    over.set()
    for thread in threads:
        thread.join()
    while mine.stats().recovered < forks:
        await asyncio.sleep(0.01)
    print(os.getpid(), mine.stats().recorded, int(median() - without), int(without))
    await mine.stop()
asyncio.run(main())
"""
    reported = _run(program, directory, _FORKS).split()
    pid, recorded, more_ns, without_ns = map(int, reported)
    record_property(
        "got", f"a fork takes {without_ns / 1e6:.2f} ms, {more_ns / 1e6:+.2f} ms while recording"
    )
    found = Counter((row["Label"], int(row["PID"]) == pid) for row in rows("custom"))
    assert found == {("child", False): _FORKS, ("parent", True): recorded}
    _verdicts(directory)


def test_row_13_a_segment_is_free_while_a_child_of_its_dead_owner_lives(tmp_path: Path) -> None:
    """And while its owner is a zombie: row 15."""
    pid = os.fork()
    if pid == 0:
        Writer.in_journal(tmp_path / "root", writer_options()).new_segment()
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    (dead,) = lock_dead_writers(tmp_path / "root")
    dead.close()
    os.waitpid(pid, 0)


def test_row_13_a_killed_owners_segments_are_free_at_once_while_its_child_lives(
    tmp_path: Path, record_property: Property
) -> None:
    times_ns = []
    for number in range(20):
        root = tmp_path / str(number)
        reading, writing = os.pipe()
        owner = os.fork()
        if owner == 0:
            writer = Writer.in_journal(root, writer_options())
            os.register_at_fork(after_in_child=writer.abandon_in_child)
            segment = writer.new_segment()
            os.write(writing, b"%d %d" % (os.fork() or os.getpid(), segment.capacity))
            signal.pause()
        child = int(os.read(reading, 40).split()[0])
        os.kill(owner, signal.SIGKILL)
        begun_ns = time.perf_counter_ns()
        claimed: Sequence[Any] = ()
        while not claimed:
            claimed = tuple(lock_dead_writers(root))
        times_ns.append(time.perf_counter_ns() - begun_ns)
        claimed[0].close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(owner, 0)
        os.close(reading)
        os.close(writing)
    record_property("runs", len(times_ns))
    record_property("got", f"from SIGKILL to the claim: {spread(times_ns)}")


@pytest.fixture
def root() -> None:
    """Skip where system administration is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount file systems and make namespaces")


_OWN_PIDS = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.mark.usefixtures("root")
async def test_row_14_two_processes_of_one_pid_steal_nothing_from_each_other(
    directory: Path, rows: Rows, record_property: Property
) -> None:
    record_property("got", "400 observations, each there once")
    program = """
import asyncio, os, sys
from aqltelemetry import Monitor, record
async def main():
    mine = Monitor(sys.argv[1], with_runtime=False, flush_interval_s=0.01, max_file_age_s=0.05)
    await mine.start()
    for number in range(200):
        record(sys.argv[2], number)
        await asyncio.sleep(0.001)
    print(os.getpid())
    os.kill(os.getpid(), 9) if os.getpid() != 1 else os._exit(9)
asyncio.run(main())
"""
    if subprocess.run([*_OWN_PIDS, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make PID namespaces")
    run = [
        asyncio.to_thread(_run, program, directory, name, code=9, prefix=_OWN_PIDS) for name in "ab"
    ]
    assert await asyncio.gather(*run) == ["1\n", "1\n"]
    await recover(directory)
    found = Counter((row["Label"], row["Measurement"]) for row in rows("custom"))
    assert len(found) == found.total() == 400
    _verdicts(directory)


async def test_row_16_many_starts_within_a_second_replace_no_file(
    directory: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, record_property: Property
) -> None:
    """And one after the other with the wall clock set back by an hour."""

    def an_hour_ago() -> clock.Anchor:
        at_ns, offset_ns = read_anchor()
        return clock.Anchor(at_ns, offset_ns - 3600 * 10**9)

    read_anchor = clock.read_anchor
    for number in range(50):
        for module in (assembly, session):
            monkeypatch.setattr(module, "read_anchor", an_hour_ago if number % 2 else read_anchor)
        async with Monitor(directory, with_runtime=False):
            record("x", number)
    assert _numbers(rows) == Counter(range(50))
    assert len(_verdicts(directory)) == 50
    record_property("runs", 50)
    files = len(list(directory.glob("*.csv")))
    record_property("got", f"50 starts, {files} files, none replaced")


@contextlib.contextmanager
def _mounted(path: Path, size: str) -> Iterator[Path]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount file systems")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), (path / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("full", ["journal", "monitoring"])
async def test_row_17_18_19_a_full_disk_costs_what_does_not_fit_and_is_counted(
    tmp_path: Path, full: str, record_property: Property
) -> None:
    """Of the journal: when a segment is to be made. Of the files: when rows are written."""
    with _mounted(tmp_path / "disk", "16m") as disk:
        place = {"journal": tmp_path / "journal", "monitoring": tmp_path / "monitoring"}
        place[full] = disk / full
        directory, journal = place["monitoring"], place["journal"]
        mine = Monitor(directory, journal_dir=journal, with_runtime=False, flush_interval_s=0.05)
        await mine.start()
        _fill(disk)
        for number in range(150_000):  # more than fits into the segments that are there
            record("x", number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(mine.flush(), 5)
        assert all(path.read_bytes().endswith(b"\n") for path in directory.glob("*.csv"))
        (disk / "filler").unlink()
        begun_s, probes, resumed_s = time.perf_counter(), 0, 0.0
        async with asyncio.timeout(60):
            while not resumed_s:
                before = mine.stats().dropped
                record("x", -2)
                probes += 1
                if mine.stats().dropped == before:
                    resumed_s = time.perf_counter() - begun_s
                await asyncio.sleep(0)
            while mine.stats().in_journal:
                await mine.flush()
        published_s = time.perf_counter() - begun_s
        record("x", -1)
        stats = await mine.stop()
        (verdict,) = _verdicts(directory, journal)
        dropped = {each.reason: each.total for each in verdict.dropped}
        assert dropped == stats.dropped
        assert verdict.rows + sum(dropped.values()) == 150_001 + probes
        assert (verdict.in_journal, verdict.removed) == (0, 0)
    dropped_in_all = sum(stats.dropped.values())
    got = f"{full} full: {dropped_in_all:,} of {stats.recorded:,} dropped, all counted; with "
    got += f"room again it records after {resumed_s:.2f} s, all is published after "
    record_property("got", f"{got}{published_s:.2f} s")


@pytest.mark.usefixtures("root")
async def test_row_23_on_a_read_only_file_system_recording_goes_on(tmp_path: Path) -> None:
    with _mounted(tmp_path / "disk", "16m") as disk:
        directory = disk / "monitoring"
        journal = tmp_path / "journal"
        async with Monitor(directory, journal_dir=journal, with_runtime=False) as mine:
            record("x", 1)
            await mine.flush()
            _remount(disk, "ro")
            record("x", 2)
            await mine.flush()
            assert mine.stats().in_journal == 1
            assert mine.stats().sink_errors >= 1
            _remount(disk, "rw")
        (verdict,) = _verdicts(directory, journal)
        assert verdict.rows == 2


def _remount(path: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True)


async def test_row_21_files_may_be_deleted_at_any_time(
    directory: Path, record_property: Property
) -> None:
    over, deleted = threading.Event(), Counter[str]()

    def delete() -> None:
        while not over.wait(0.001):
            for path in directory.glob("*.csv"):
                text = path.read_bytes()
                path.unlink()
                deleted[path.name.split(".")[0]] += text.count(b"\n") - 1

    reader = threading.Thread(target=delete)
    async with Monitor(
        directory, with_runtime=False, flush_interval_s=0.01, max_file_age_s=0.02
    ) as mine:
        reader.start()
        for number in range(10_000):
            record("x", number)
            if number % 100 == 0:
                await asyncio.sleep(0.002)
        await mine.flush()
        assert (mine.stats().sink_errors, mine.stats().dropped) == (0, {})
        over.set()
        reader.join()
        record("x", -1)
    left = sum(path.read_bytes().count(b"\n") - 1 for path in directory.glob("custom.*.csv"))
    assert deleted["custom"] + left == 10_001
    (verdict,) = _verdicts(directory)
    assert (verdict.accepted, verdict.rows) == (10_001, left)
    record_property("got", f"{deleted['custom']:,} of 10,001 rows deleted, all accounted, 0 errors")


async def test_row_22_a_directory_that_is_removed_and_made_again_costs_nothing_unpublished(
    directory: Path, tmp_path: Path, rows: Rows, record_property: Property
) -> None:
    journal = tmp_path / "journal"
    async with Monitor(directory, with_runtime=False, journal_dir=journal) as mine:
        record("x", 1)
        await mine.flush()
        record("x", 2)
        remove_at_once(directory)
        begun_s = time.perf_counter()
        await mine.flush()
        assert list(directory.glob("custom.*.csv"))
        took_ms = (time.perf_counter() - begun_s) * 1e3
        record_property("got", f"published again {took_ms:.0f} ms after `rm -rf`")
        record("x", 3)
        remove_at_once(directory)
        directory.mkdir()
    assert _numbers(rows) == Counter([3])
    (verdict,) = _verdicts(directory, journal)
    assert (verdict.rows, verdict.removed) == (1, 2)


async def test_row_25_a_write_that_hangs_holds_up_the_publisher_alone(
    directory: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, record_property: Property
) -> None:
    gate: Future[None] = Future()
    real = AsyncBufferedIOBase.writelines

    mine = Monitor(directory, with_runtime=False, flush_interval_s=0.01)
    await mine.start()
    assert mine._session is not None
    thread = mine._session._parts.sink_thread

    async def hanging(file: Any, pieces: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, gate.result)
        await real(file, pieces)

    free_ns = [await _timed(number) for number in range(1_000)]
    monkeypatch.setattr(AsyncBufferedIOBase, "writelines", hanging)
    flush = asyncio.create_task(mine.flush())
    hung_ns = [await _timed(number) for number in range(1_000, 2_000)]
    assert not flush.done()
    gate.set_result(None)
    await mine.stop()
    assert _numbers(rows) == Counter(range(2_000))
    _verdicts(directory)
    got = f"a record while it hangs: {spread(hung_ns)}; else: {spread(free_ns)}"
    record_property("got", got)


async def _timed(number: int) -> int:
    """Record, and return how long that took; then let others run."""
    begun_ns = time.perf_counter_ns()
    record("x", number)
    took_ns = time.perf_counter_ns() - begun_ns
    await asyncio.sleep(0)
    return took_ns


def test_row_27_without_descriptors_recording_goes_on_and_publishing_is_made_up_for(
    directory: Path, rows: Rows, record_property: Property
) -> None:
    program = """
import asyncio, os, resource, sys
from aqltelemetry import Monitor, record
async def main():
    mine = Monitor(sys.argv[1], with_runtime=False, flush_interval_s=0.01, max_file_age_s=0.01)
    await mine.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for number in range(1_000):
        record("x", number)
        if number % 100 == 0:
            await asyncio.sleep(0.05)
    for fd in held:
        os.close(fd)
    for number in range(1_000, 1_100):
        record("x", number)
    stats = await mine.stop()
    print(stats.dropped.get("unreadable", 0), stats.dropped.get("no segment", 0))
asyncio.run(main())
"""
    unreadable, without = map(int, _run(program, directory).split())
    found = _numbers(rows)
    assert unreadable == 0
    assert len(found) == found.total() == 1_100 - without
    (verdict,) = _verdicts(directory)
    assert sum(each.total for each in verdict.dropped) == without
    record_property("got", f"1,100 recorded, {without} dropped and counted, the rest in the files")


def test_row_28_a_limit_to_the_size_of_files_is_as_a_full_disk(
    directory: Path, rows: Rows, record_property: Property
) -> None:
    program = """
import asyncio, resource, sys
from aqltelemetry import Monitor, record
async def main():
    mine = Monitor(sys.argv[1], with_runtime=False)
    await mine.start()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    for number in range(20_000):
        record("x", number)
    await mine.flush()
    assert mine.stats().in_journal == 20_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await mine.flush()
    await mine.stop()
asyncio.run(main())
"""
    _run(program, directory)
    assert _numbers(rows) == Counter(range(20_000))
    _verdicts(directory)
    record_property("got", "20,000 kept in the journal, and in the files once there was room")


async def test_row_29_files_on_another_file_system_than_the_journal(
    directory: Path, rows: Rows
) -> None:
    with contextlib.suppress(FileExistsError):
        Path("/dev/shm/aqltelemetry-test").mkdir()
    async with Monitor(directory, with_runtime=False, journal_dir="/dev/shm/aqltelemetry-test"):
        record("x", 1)
    assert _numbers(rows) == Counter([1])
    _verdicts(directory, Path("/dev/shm/aqltelemetry-test"))
    shutil.rmtree("/dev/shm/aqltelemetry-test")


_AMONG_DEAD_WRITERS = """
import asyncio, sys
from time import perf_counter, process_time
from aqltelemetry import Monitor, record
from figures import peak_rss_bytes
async def main():
    before = peak_rss_bytes()
    mine = Monitor(sys.argv[1], journal_dir=sys.argv[2], with_runtime=False, keep_s=1e9)
    begun = perf_counter()
    await mine.start()
    ready = perf_counter() - begun
    used, begun = process_time(), perf_counter()
    record("x", 2)
    assert mine.stats().recorded == 1
    await asyncio.sleep(float(sys.argv[3]))
    share = (process_time() - used) / (perf_counter() - begun)
    stats = await mine.stop()
    print(ready * 1e3, share * 100, (peak_rss_bytes() - before) / 2**20, stats.recovered)
asyncio.run(main())
"""


@pytest.mark.timeout(900)
def test_row_32_a_start_is_not_held_up_by_what_thousands_left(
    directory: Path, tmp_path: Path, rows: Rows, record_property: Property
) -> None:
    """Recovery works meanwhile, some segments at a time; ORPHANS=50000 for the long run."""
    journal, seconds = tmp_path / "journal", 1 if _ORPHANS < 1_000 else 20
    bare = _start_with_dead_writers(tmp_path / "other", tmp_path / "empty", 1)
    root = all_roots(str(directory), str(journal))[0]
    root.mkdir(parents=True, mode=0o700)
    for _ in range(_ORPHANS // 4):
        writer = Writer.in_journal(root, writer_options(str(directory)))
        for _ in range(4):
            _leave(writer)
        writer.close()
    found = _start_with_dead_writers(directory, journal, seconds)
    assert found[2] < bare[2] + 2 * SEGMENT_BYTES / 2**20 + 8
    assert _numbers(rows) == Counter({1: found[3], 2: 1})
    record_property("runs", _ORPHANS)
    got = f"{_ORPHANS:,} segments: ready after {found[0]:.0f} ms ({bare[0]:.0f} without them), "
    got += f"{found[1]:.0f} % of a processor, {found[2] - bare[2]:.1f} MiB more memory, "
    record_property("got", f"{got}{found[3]:.0f} observations recovered in {seconds} s")


def _start_with_dead_writers(directory: Path, journal: Path, seconds: float) -> list[float]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [
        sys.executable,
        "-c",
        _AMONG_DEAD_WRITERS,
        str(directory),
        str(journal),
        str(seconds),
    ]
    done = subprocess.run(command, check=True, timeout=300, stdout=subprocess.PIPE, env=environ)
    return [float(each) for each in done.stdout.split()]


def _leave(writer: Writer) -> None:
    """Leave a segment with an observation, its file without the room it does not use."""
    segment = writer.new_segment(yield_gil=lambda: None)
    recording, _ = _recording(segment)
    recorder.install(recording)
    record("left", 1)
    recorder.remove(recording)
    assert segment.path is not None
    data = segment.map[:]
    size = fmt.RECORDS_AT + fmt.RECORD_BYTES
    with segment.path.open("wb") as file:
        for at in range(0, size, 4096):
            if any(page := data[at : min(at + 4096, size)]):
                file.seek(at)
                file.write(page)


@pytest.mark.timeout(1_000)
async def test_row_33_a_stuck_sink_costs_a_bounded_journal_and_an_exact_count(
    directory: Path, record_property: Property
) -> None:
    """SECONDS=600 for the long run, at full rate."""

    class Stuck(MemorySink):
        async def write(self, batch: Batch) -> Sequence[SegmentId]:
            await asyncio.Event().wait()
            return ()

    limit = 8 << 20
    mine = Monitor(
        directory,
        with_runtime=False,
        flush_interval_s=0.05,
        journal_bytes=limit,
        stop_timeout_s=0.5,
        sinks=[Stuck()],
    )
    await mine.start()
    loop = asyncio.get_running_loop()
    until, reported, most = loop.time() + _SECONDS, 0, 0
    before = rss_bytes()
    while loop.time() < until or not mine.stats().dropped:
        for number in range(5_000):
            record("x", number)
        reported += 5_000
        most = max(most, _bytes_below(directory.parent))
        await asyncio.sleep(0)
    grown = rss_bytes() - before
    stats = await mine.stop()
    assert stats.recorded == reported
    assert stats.published + stats.in_journal + sum(stats.dropped.values()) == reported
    assert most <= limit + SEGMENT_BYTES
    assert grown < limit + (16 << 20)
    (verdict,) = _verdicts(directory)
    assert sum(each.total for each in verdict.dropped) == stats.dropped["no segment"]
    got = f"{reported:,} in {_SECONDS:.0f} s ({reported / _SECONDS:,.0f} per second), "
    got += f"{stats.dropped['no segment']:,} dropped, all counted; "
    got += f"RSS grew by {grown / 2**20:.1f} MiB, the journal to {most / 2**20:.1f} of 8 MiB"
    record_property("got", got)


def _bytes_below(path: Path) -> int:
    found = 0
    for each in path.rglob("*.seg"):
        with contextlib.suppress(FileNotFoundError):
            found += each.stat().st_size
    return found


def _size_bytes(directory: Path) -> int:
    total = 0
    for path in directory.glob("*.csv"):
        with contextlib.suppress(FileNotFoundError):  # retention is at work meanwhile
            total += path.stat().st_size
    return total


async def test_row_34_what_nobody_deletes_is_bounded_and_its_removal_counted(
    directory: Path, record_property: Property
) -> None:
    keep, file, most = 200_000, 16 << 10, 0
    async with Monitor(
        directory, with_runtime=False, keep_bytes=keep, max_file_bytes=file, flush_interval_s=0.01
    ) as mine:
        for _ in range(40):
            for number in range(1_500):
                record("x", number)
            await mine.flush()
            most = max(most, _size_bytes(directory))
    assert most <= keep + SEGMENT_BYTES
    assert _size_bytes(directory) <= keep + file
    (verdict,) = _verdicts(directory)
    assert verdict.accepted == 60_000
    assert verdict.removed > 40_000
    assert verdict.is_accounted_for
    assert verdict.retired_files
    got = f"at most {most:,} bytes of {keep:,} to keep; {verdict.retired_files} files removed, "
    record_property("got", f"{got}{verdict.removed:,} of 60,000 rows, all accounted")


async def test_row_39_an_applications_full_executor_does_not_hold_up_publishing(
    directory: Path, rows: Rows, record_property: Property
) -> None:
    gate = threading.Event()
    async with Monitor(directory, with_runtime=False) as mine:
        jobs = [asyncio.to_thread(gate.wait) for _ in range(40)]
        blocked = [asyncio.create_task(job) for job in jobs]
        times_ns = []
        for number in range(20):
            record("x", number)
            begun_ns = time.perf_counter_ns()
            await mine.flush()
            times_ns.append(time.perf_counter_ns() - begun_ns)
        assert _numbers(rows) == Counter(range(20))
        gate.set()
        await asyncio.gather(*blocked)
    record_property("got", f"from record to file: {spread(times_ns)}")


def test_row_38_a_blocked_loop_is_seen_and_loses_nothing(
    directory: Path, rows: Rows, record_property: Property
) -> None:
    """BLOCKED_S=5 for the long run."""
    program = """
import asyncio, sys, time
from aqltelemetry import Monitor, record
async def main():
    async with Monitor(sys.argv[1], interval_s=0.05):
        await asyncio.sleep(0.3)
        record("x", 1)
        time.sleep(float(sys.argv[2]))
        record("x", 2)
        await asyncio.sleep(0.3)
for _ in range(2):
    asyncio.run(main())
"""
    _run(program, directory, _BLOCKED_S)
    assert _numbers(rows) == Counter({1: 2, 2: 2})
    lags = [float(row["Measurement"]) for row in rows("runtime") if "lag" in row["Label"]]
    assert sum(lag >= _BLOCKED_S - 0.2 for lag in lags) == 2
    _verdicts(directory)
    record_property("got", f"blocked for {_BLOCKED_S} s, a lag of {max(lags):.2f} s is there")


async def test_row_20_segments_are_where_nobody_else_may_cut_them(directory: Path) -> None:
    """A mapped file that is cut kills its process: so nobody else may get at it."""
    async with Monitor(directory, with_runtime=False) as mine:
        await mine.flush()  # after which no file is being made
        (root,) = (root for root in all_roots(str(directory)) if root.exists())
        for path in (root, *root.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0
            assert path.stat().st_uid == os.geteuid()


def test_row_07_an_exit_without_a_stop_loses_nothing(directory: Path, rows: Rows) -> None:
    program = (
        "from aqltelemetry import sync, record; import sys; sync.start(sys.argv[1]); record('x', 1)"
    )
    _run(program, directory)
    assert _numbers(rows) == Counter([1])
    assert all(is_published(path.name) for path in directory.iterdir())


async def test_row_37_time_goes_on_as_a_sink_is_cancelled(directory: Path, rows: Rows) -> None:
    """The drain is cancelled during a write: what it contained is published by the next start."""
    mine = Monitor(directory, with_runtime=False, stop_timeout_s=0)
    await mine.start()
    for number in range(100):
        with time_block("x"):
            record("x", number)
    await mine.stop()
    await recover(directory)
    assert _numbers(rows) == Counter(range(100))


@contextlib.contextmanager
def _looped(image: Path, at: Path) -> Iterator[None]:
    """Mount an image, made if there is none, as a file system of its own."""
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    at.mkdir(exist_ok=True)
    command = ["mount", "-o", "loop", str(image), str(at)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount file systems, and a loop device")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@pytest.mark.usefixtures("root")
async def test_row_26_a_frozen_file_system_holds_up_no_record(
    tmp_path: Path, record_property: Property
) -> None:
    """With the journal on a memory file system, as it is by default outside containers."""
    journal = Path("/dev/shm") / f"aqltelemetry-test-{os.getpid()}"
    disk = tmp_path / "disk"
    with _looped(tmp_path / "image", disk):
        directory = disk / "monitoring"
        async with Monitor(directory, with_runtime=False, journal_dir=journal) as mine:
            record("x", 0)
            await mine.flush()
            subprocess.run(["fsfreeze", "--freeze", str(disk)], check=True)
            try:
                flush = asyncio.create_task(mine.flush())
                times_ns = [await _timed(number) for number in range(1, 1_000)]
                assert not flush.done()
            finally:
                subprocess.run(["fsfreeze", "--unfreeze", str(disk)], check=True)
            await flush
        (verdict,) = _verdicts(directory, journal)
        assert (verdict.rows, verdict.dropped) == (1_000, [])
    record_property("got", f"a record while it is frozen: {spread(times_ns)}")
    shutil.rmtree(journal, ignore_errors=True)


@pytest.mark.usefixtures("root")
async def test_row_45_after_a_power_loss_every_file_is_whole_and_a_start_works(
    tmp_path: Path, record_property: Property
) -> None:
    """What the kernel had written, that is: the image is copied as it is on the disk."""
    disk, image, copy = tmp_path / "disk", tmp_path / "image", tmp_path / "copy"
    with _looped(image, disk):
        directory = disk / "monitoring"
        mine = Monitor(directory, with_runtime=False, journal_dir=disk / "j", flush_interval_s=0.01)
        await mine.start()
        for number in range(20):
            record("x", number)
            await mine.flush()
        os.sync()
        for number in range(20, 40):
            record("x", number)
            await mine.flush()
        shutil.copy(image, copy)
        await mine.stop()
    with _looped(copy, disk):
        files = list(directory.glob("custom.*.csv"))
        assert len(files) >= 20
        assert all(path.read_bytes().endswith(b"\n") for path in files)
        async with Monitor(directory, with_runtime=False, journal_dir=disk / "j"):
            record("x", 40)
    record_property("got", f"20 files synchronised, 20 more written: {len(files)} there, all whole")


@contextlib.contextmanager
def _memory_limit(limit_bytes: int) -> Iterator[Path]:
    """Make a control group; yield the file that a process enters it by."""
    older = Path("/sys/fs/cgroup/memory")
    base, name = (
        (older, "memory.limit_in_bytes") if older.exists() else (older.parent, "memory.max")
    )
    group = base / f"aqltelemetry-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / name).write_text(str(limit_bytes))
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip("needs the right to make control groups that limit memory")
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("place", ["memory", "disk"])
async def test_row_05_the_kernels_kill_without_memory_loses_nothing(
    directory: Path, tmp_path: Path, rows: Rows, place: str, record_property: Property
) -> None:
    program = """
import asyncio, os, sys
from pathlib import Path
from aqltelemetry import Monitor, record
async def main():
    Path(sys.argv[3]).write_text(str(os.getpid()))
    await Monitor(sys.argv[1], with_runtime=False, journal_dir=sys.argv[2]).start()
    held, number = [], 0
    while True:
        record("x", number)
        os.write(1, b".")
        number += 1
        held.append(b"x" * 65536)
asyncio.run(main())
"""
    shm = Path("/dev/shm") / f"aqltelemetry-test-{os.getpid()}"
    journal = tmp_path / "journal" if place == "disk" else shm
    with _memory_limit(80 << 20) as group:
        reported = len(_run(program, directory, journal, group, code=-signal.SIGKILL))
    async with Monitor(directory, with_runtime=False, journal_dir=journal) as mine:
        async with asyncio.timeout(60):
            while mine.stats().recovered < reported:
                await asyncio.sleep(0.01)
    assert reported > 100
    found = _numbers(rows)
    assert found in (Counter(range(reported)), Counter(range(reported + 1)))
    _verdicts(directory, journal)
    shutil.rmtree(shm, ignore_errors=True)
    record_property("got", f"journal on {place}: {reported:,} recorded, all there")


@pytest.mark.timeout(900)
def test_row_35_recording_during_recording_hangs_nobody_and_loses_nothing(
    directory: Path, record_property: Property
) -> None:
    """From collector callbacks, signal handlers, `__del__`, weak references; CALLS=10000000."""
    program = """
import asyncio, gc, signal, sys, weakref
from collections import Counter
from aqltelemetry import Monitor, record
class Dying:
    def __del__(self):
        reported["death"] += 1
        record("death", 1)
def callback(phase, info):
    reported["collection"] += 1
    record("collection", 1)
def handler(number, frame):
    reported["signal"] += 1
    record("signal", 1)
def gone(reference):
    reported["reference"] += 1
    record("reference", 1)
reported = Counter()
async def main():
    calls = int(sys.argv[2])
    async with Monitor(sys.argv[1], with_runtime=False, keep_bytes=64 << 20) as mine:
        gc.callbacks.append(callback)
        gc.set_threshold(100)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
        while reported["call"] < calls:
            for _ in range(1_000):
                record("call", 1)
                reported["call"] += 1
                dying = Dying()
                reference = weakref.ref(dying, gone)
                del dying
                knot = []
                knot.append(knot)
            await asyncio.sleep(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.callbacks.remove(callback)
    del reference
    stats = mine.stats()
    assert stats.recorded == reported.total(), (stats, reported)
    print(reported.total(), sum(stats.dropped.values()), *sorted(reported.values()))
asyncio.run(main())
"""
    command = [sys.executable, "-c", program, str(directory), str(_CALLS)]
    done = subprocess.run(command, check=True, timeout=800, stdout=subprocess.PIPE)
    reported, dropped, *kinds = map(int, done.stdout.split())
    assert len(kinds) == 5
    assert all(kinds)
    (verdict,) = _verdicts(directory)
    assert verdict.accepted + sum(each.total for each in verdict.dropped) == reported
    record_property("runs", _CALLS)
    record_property("got", f"{reported:,} recorded, {dropped:,} dropped and counted, 0 lost")


_HOSTILE = (',"', "\r\n", "\0\t", "\ud800\udfff", "\ufeff", "=cmd()", "\u2028\x85", "'\\", "é😀")


async def test_row_40_hostile_labels_come_back_as_documented_from_every_reader(
    directory: Path, record_property: Property
) -> None:
    """Though of a megabyte, or no text: as `clean_label` says, which the application can call."""
    dice = random.Random(40)
    signs = [
        *"".join(_HOSTILE),
        *map(chr, range(32, 0x3000, 7)),
        *map(chr, range(0x10000, 0x10100)),
    ]
    labels = {"x" * (1 << 20), *_HOSTILE, "NA", "", "nan"}
    odd = (None, 12, b"x")
    while len(labels) + len(odd) < MAX_LABELS:
        labels.add("".join(dice.choices(signs, k=dice.randrange(60))))
    async with Monitor(directory, with_runtime=False, max_file_age_s=0.2) as mine:
        for number, label in enumerate([*sorted(labels), *odd]):
            record(label, number)  # type: ignore[arg-type]
            if number % 500 == 0:
                await mine.flush()
        dropped = mine.stats().dropped
    assert dropped == {}
    wanted = Counter(clean_label(label) for label in [*labels, *odd])
    read: dict[str, Counter[str]] = {"csv": Counter(), "pandas": Counter()}
    for path in directory.glob("custom.*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            read["csv"].update(row["Label"] for row in csv.DictReader(file, strict=True))
        read["pandas"].update(pd.read_csv(path, dtype=str, keep_default_na=False)["Label"])
    frame = TelemetryDB.from_csv_files(directory, "custom").data()
    read["TelemetryDB"] = Counter(map(str, frame["Label"]))
    for reader, found in read.items():
        assert found == wanted, reader
    _verdicts(directory)
    record_property("runs", len(labels) + len(odd))
    record_property("got", f"{wanted.total():,} of {len(labels) + len(odd):,} equal in 3 readers")
