"""A forked child records under its own PID, into its own files."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from aqltelemetry import Monitor, time_block
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.location import all_roots
from aqltelemetry.journal.writer import Writer
from aqltelemetry.observation import Batch, SegmentId
from aqltelemetry.recording import recorder
from aqltelemetry.recording.forked_child import ChildSegments
from injection import forked

Rows = Callable[..., list[dict[str, str]]]


def _fork(work: Callable[[], object]) -> int:
    """Run `work` in a forked child that ends without any clean-up; return its PID."""
    pid, code = forked(work)
    assert code == 0
    return pid


def _times(label: str, count: int) -> None:
    for _ in range(count):
        with time_block(label):
            pass


async def _await_recovered(monitor: Monitor, count: int) -> None:
    async with asyncio.timeout(60):
        while monitor.stats().recovered < count:
            await asyncio.sleep(0.01)


async def test_a_childs_observations_are_its_own_and_published_by_the_parent(
    directory: Path, rows: Rows
) -> None:
    async with Monitor(directory, with_runtime=False, flush_interval_s=0.05) as mine:
        _times("parent", 10)
        pid = _fork(lambda: _times("child", 20))
        _times("parent", 10)
        await _await_recovered(mine, 20)
    found = Counter((int(row["PID"]), row["Label"]) for row in rows())
    assert found == {(os.getpid(), "parent"): 20, (pid, "child"): 20}


async def test_a_block_open_at_the_fork_is_each_processs_own(directory: Path, rows: Rows) -> None:
    async with Monitor(directory, with_runtime=False, flush_interval_s=0.05) as mine:
        block = time_block("both")
        block.__enter__()
        pid = _fork(lambda: block.__exit__(None, None, None))
        block.__exit__(None, None, None)
        await _await_recovered(mine, 1)
    assert {int(row["PID"]) for row in rows()} == {os.getpid(), pid}
    assert len(rows()) == 2


_STOPS = {
    "sync.stop": "sync.start(directory, **options); work(); sync.stop()",
    "monitor.stop": "asyncio.run(use_monitor())",
    "exit": "sync.start(directory, **options); work()",
    "an exit by an exception": "sync.start(directory, **options); work(); 1 / 0",
}
# More children than the 64 segments that are recovered at a time.
_WORKS = {
    "a pool": """
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(child, range(70))
        pool.close()
        pool.join()
""",
    "a pool that is terminated": """
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(child, range(70))
""",
    "an executor": """
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        list(pool.map(child, range(70)))
""",
    "many processes": """
    context = multiprocessing.get_context("fork")
    for start in range(0, 70, 10):
        children = [context.Process(target=child, args=(n,)) for n in range(start, start + 10)]
        for each in children:
            each.start()
        for each in children:
            each.join()
""",
    "os.fork": """
    for number in range(70):
        if not os.fork():
            child(number)
            os._exit(0)
        os.wait()
""",
}


@pytest.mark.system
@pytest.mark.parametrize("work", _WORKS)
@pytest.mark.parametrize("stop", _STOPS)
def test_a_clean_stop_publishes_what_ended_children_recorded(
    directory: Path, rows: Rows, tmp_path: Path, stop: str, work: str
) -> None:
    program = f"""
import asyncio, concurrent.futures, multiprocessing, os, sys
from aqltelemetry import Monitor, sync, time_block
directory, options = sys.argv[1], {{"flush_interval_s": 60, "stop_timeout_s": 50}}
def child(number):
    with time_block("child"):
        return number
def work():
{_WORKS[work]}
async def use_monitor():
    async with Monitor(directory, **options):
        work()
if __name__ == "__main__":
    {_STOPS[stop]}
"""
    (tmp_path / "program.py").write_text(program)
    subprocess.run([sys.executable, tmp_path / "program.py", directory], timeout=60, check=False)
    assert Counter(row["Label"] for row in rows()) == {"child": 70}
    verdicts = verify(directory, all_roots(str(directory)))
    assert [problem for each in verdicts for problem in each.problems] == []
    left = [path for root in all_roots(str(directory)) for path in root.glob("*/*")]
    assert left == []


def test_an_exit_comes_after_that_of_daemon_processes(
    directory: Path, rows: Rows, tmp_path: Path
) -> None:
    """Which `multiprocessing` ends at its own exit, whichever was imported first."""
    program = """
import multiprocessing, sys
from aqltelemetry import sync, time_block
def child(written):
    with time_block("child"):
        pass
    written.send(1)
    written.recv()
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    sync.start(sys.argv[1], flush_interval_s=60)
    reading, writing = context.Pipe()
    context.Process(target=child, args=(writing,), daemon=True).start()
    reading.recv()
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", directory],
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    assert [row["Label"] for row in rows()] == ["child"]
    assert done.stderr == ""


async def test_a_stop_says_which_children_still_record(
    directory: Path, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    """What these recorded is published after their end, by the next recording."""
    mine = Monitor(directory, with_runtime=False)
    await mine.start()
    ready, end = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(end[1])  # so that it ends with the parent
        _times("child", 5)
        os.write(ready[1], b"x")
        os.read(end[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    await mine.stop()
    (said,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert said.startswith(f"child processes still record: {pid};")
    assert rows() == []
    os.write(end[1], b"x")
    os.waitpid(pid, 0)
    for each in (*ready, *end):
        os.close(each)
    async with Monitor(directory, with_runtime=False):
        pass
    assert Counter(row["PID"] for row in rows()) == {str(pid): 5}


async def test_a_stop_does_not_wait_for_a_sink_that_hangs_on_what_children_left(
    directory: Path, rows: Rows
) -> None:
    """Its own observations are published before, and nothing is lost."""

    class Sink:
        def __init__(self) -> None:
            self.recovered: list[int] = []

        async def write(self, batch: Batch) -> list[SegmentId]:
            if batch.recovered:
                self.recovered.append(batch.pid)
                await asyncio.Event().wait()
            return [batch.segment]

        async def flush(self) -> list[SegmentId]:
            return []

        async def close(self) -> None:
            pass

    sink = Sink()
    mine = Monitor(
        directory, with_runtime=False, sinks=[sink], stop_timeout_s=0.5, flush_interval_s=60
    )
    await mine.start()
    _times("parent", 3)
    pid = _fork(lambda: _times("child", 5))
    await mine.stop()
    assert sink.recovered == [pid]
    assert mine.stats().published == 3
    async with Monitor(directory, with_runtime=False):
        pass
    assert Counter(row["Label"] for row in rows()) == {"parent": 3, "child": 5}


async def test_a_childs_child_is_as_good(directory: Path, rows: Rows) -> None:
    def child() -> None:
        _times("child", 5)
        _fork(lambda: _times("grandchild", 7))
        _times("child", 5)

    async with Monitor(directory, with_runtime=False, flush_interval_s=0.05) as mine:
        _fork(child)
        await _await_recovered(mine, 17)
    assert Counter(row["Label"] for row in rows()) == {"child": 10, "grandchild": 7}
    assert len({row["PID"] for row in rows()}) == 2


async def test_a_child_fills_segment_after_segment(directory: Path, rows: Rows) -> None:
    async with Monitor(directory, with_runtime=False, flush_interval_s=0.05) as mine:
        _fork(lambda: _times("child", 100_000))
        await _await_recovered(mine, 100_000)
    assert len(rows()) == 100_000


async def test_a_child_that_records_nothing_leaves_nothing(directory: Path, rows: Rows) -> None:
    async with Monitor(directory, with_runtime=False):
        _fork(lambda: None)
    assert rows("*") == []
    assert list(directory.rglob("*")) == []


async def test_the_parents_samplers_are_not_the_childs(directory: Path, rows: Rows) -> None:
    """The collector's callback is removed in the child; its series are the parent's."""

    def child() -> None:
        _times("child", 1)
        gc.collect()

    async with Monitor(directory, flush_interval_s=0.05) as mine:
        _fork(child)
        await _await_recovered(mine, 1)
    assert {int(row["PID"]) for row in rows("runtime")} == {os.getpid()}


def test_a_child_may_run_a_monitor_of_its_own(directory: Path, rows: Rows) -> None:
    def child() -> None:
        async def run() -> None:
            _times("before", 3)
            async with Monitor(directory, with_runtime=False, flush_interval_s=0.05) as mine:
                _times("during", 5)
                await _await_recovered(mine, 3)

        asyncio.run(run())

    async def parent() -> int:
        async with Monitor(directory, with_runtime=False, flush_interval_s=3):
            # As servers do: the child leaves the parent's loop alone.
            return await asyncio.to_thread(_fork, child)

    pid = asyncio.run(parent())
    assert Counter((int(row["PID"]), row["Label"]) for row in rows()) == {
        (pid, "before"): 3,
        (pid, "during"): 5,
    }


def test_after_the_parents_stop_a_new_child_records_nothing(directory: Path, rows: Rows) -> None:
    async def run() -> None:
        async with Monitor(directory, with_runtime=False):
            pass

    asyncio.run(run())
    _fork(lambda: _times("child", 5) if not recorder.is_on() else os._exit(3))
    assert rows() == []


def _pool_work(number: int) -> int:
    _times("pool", 10)
    return number


async def test_a_pool_of_processes_is_recorded(directory: Path, rows: Rows) -> None:
    context = multiprocessing.get_context("fork")
    async with Monitor(directory, with_runtime=False, flush_interval_s=0.05):
        with context.Pool(3) as pool:
            await asyncio.to_thread(pool.map, _pool_work, range(30), 1)
        async with asyncio.timeout(60):
            # A worker that ends in order may publish what another one has recorded.
            while len(rows()) < 300:
                await asyncio.sleep(0.01)
    assert Counter(row["Label"] for row in rows()) == {"pool": 300}


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "pass"])
def test_a_child_that_outlives_its_parent_is_recovered_later(
    directory: Path, rows: Rows, end: str
) -> None:
    program = f"""
import asyncio, os, sys
from aqltelemetry import Monitor, time_block
async def main():
    mine = Monitor(sys.argv[1], with_runtime=False)
    await mine.start()
    if os.fork() == 0:
        with time_block("child"):
            pass
        os.write(1, b"recorded")
        {end}
        os._exit(0)
    os.wait()
    os._exit(0)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == b"recorded"

    async def recover() -> None:
        async with Monitor(directory, with_runtime=False) as mine:
            await _await_recovered(mine, 1)

    asyncio.run(recover())
    assert [row["Label"] for row in rows()] == ["child"]


@pytest.mark.parametrize("generations", [1, 2])
async def test_a_living_child_does_not_hold_up_the_recovery_of_its_dead_parent(
    directory: Path, rows: Rows, generations: int
) -> None:
    """Nor of what its parent had claimed of others."""
    program = f"""
import asyncio, os, sys
from aqltelemetry import Monitor, time_block
async def main():
    mine = Monitor(sys.argv[1], with_runtime=False)
    await mine.start()
    for generation in range({generations}):
        with time_block(f"parent {{generation}}"):
            pass
        if os.fork():
            os._exit(0)
    os.write(1, b"alive")
    sys.stdin.read()
    os._exit(0)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.read(5) == b"alive"
        async with Monitor(directory, with_runtime=False) as mine:
            await _await_recovered(mine, generations)
        process.stdin.close()
    labels = sorted(row["Label"] for row in rows())
    assert labels == [f"parent {number}" for number in range(generations)]


async def test_a_child_does_not_hold_what_its_parent_had_claimed_of_others(
    directory: Path, rows: Rows
) -> None:
    program = """
import asyncio, os, sys
from aqltelemetry import Monitor, time_block
from aqltelemetry.sinks import csv_file
async def dead():
    await Monitor(sys.argv[1], with_runtime=False).start()
    with time_block("left"):
        pass
    os._exit(0)
async def claims():
    def fork(directory, publications, with_fsync):
        if os.fork():
            os._exit(0)
        os.write(1, b"alive")
        sys.stdin.read()
        os._exit(0)
    csv_file.publish = fork
    await Monitor(sys.argv[1], with_runtime=False).start()
    await asyncio.sleep(3600)
if os.fork() == 0:
    asyncio.run(dead())
os.wait()
asyncio.run(claims())
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.read(5) == b"alive"
        async with Monitor(directory, with_runtime=False) as mine:
            await _await_recovered(mine, 1)
        process.stdin.close()
    assert [row["Label"] for row in rows()] == ["left"]


async def test_a_child_forked_while_its_parent_stops_leaves_the_parents_segments_alone(
    directory: Path, rows: Rows
) -> None:
    class Sampler:
        prefix = "custom"
        interval_s: float | None = 3600.0
        codes: ClassVar[list[int]] = []

        async def sample(self) -> tuple[()]:
            if not mine.is_running:  # sampled for the last time: the monitor stops
                reading, writing = os.pipe()
                pid = os.fork()
                if not pid:
                    os.read(reading, 1)
                    _times("child", 5)
                    os._exit(0)
                _times("parent", 5)
                os.write(writing, b"x")
                self.codes.append(os.waitpid(pid, 0)[1])
                os.close(reading)
                os.close(writing)
            return ()

    mine = Monitor(directory, with_runtime=False, samplers=[Sampler()])
    await mine.start()
    _times("parent", 3)
    await mine.stop()
    assert Sampler.codes == [0]
    assert [row["Label"] for row in rows()] == ["parent"] * 8


@pytest.mark.parametrize("fork", ["os.fork()", "multiprocessing"])
def test_a_fork_raises_nothing_where_warnings_are_errors(
    directory: Path, run_program: Callable[[str], None], fork: str
) -> None:
    """From Python 3.12 on, it warns of the threads that a recording has."""
    run_program(f"""
import multiprocessing, os
from aqltelemetry import sync
def work():
    with sync.time_block("child"):
        pass
sync.start({str(directory)!r}, with_runtime=False)
if {fork!r} == "multiprocessing":
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 0
else:
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
sync.stop()
""")


def test_a_child_that_can_have_no_journal_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """As one that has given up the rights of its parent's user."""

    def no_writer() -> Writer:
        raise PermissionError(13, "Permission denied")

    recording = ChildSegments(no_writer).start_recording()
    recorder.install(recording)
    try:
        for _ in range(3):
            with time_block("x"):
                pass
    finally:
        recorder.remove(recording)
    assert recording.drops == {"no segment": 3}
    (line,) = [each.message for each in caplog.records if each.name == "aqltelemetry"]
    assert line.endswith("has no journal, and drops what it records: [Errno 13] Permission denied")
