"""Each child of a recording program is recorded: its blocks, and its runtime series."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.location import all_roots
from servers import wait_until

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]

# Ways to run `work(number)` in two children or more, ten times each at least. What a child
# prints is its PID, once for each block.
_WAYS = {
    "a pool, fork": "use(multiprocessing.get_context('fork').Pool(2))",
    "a pool, one task a process": (
        "use(multiprocessing.get_context('fork').Pool(2, maxtasksperchild=1))"
    ),
    "a pool, spawn": "use(multiprocessing.get_context('spawn').Pool(2, begin))",
    "a pool, forkserver": "use(multiprocessing.get_context('forkserver').Pool(2, begin))",
    "billiard": "use(billiard.Pool(2))",
    "an executor, fork": "execute(multiprocessing.get_context('fork'), None)",
    "an executor, spawn": "execute(multiprocessing.get_context('spawn'), begin)",
    "an executor, forkserver": "execute(multiprocessing.get_context('forkserver'), begin)",
    "os.fork": "fork()",
    "subprocess": "[subprocess.run([sys.executable, __file__, 'child']) for _ in range(2)]",
}
_PROGRAM = """
import billiard, concurrent.futures, multiprocessing, os, subprocess, sys, time
from aqltelemetry import sync, time_block
from aqltelemetry.runtime import background
options = {{"interval_s": 0.05}}
def begin():
    sync.start("monitoring", **options)
def work(number):
    with time_block("work"):
        time.sleep(0.001)
    os.write(1, b"%d\\n" % os.getpid())
def use(pool):
    pool.map(work, range(20), 1)
    pool.close()
    pool.join()
def execute(context, initializer):
    with concurrent.futures.ProcessPoolExecutor(
        2, context, initializer=initializer
    ) as executor:
        list(executor.map(work, range(20)))
def fork():
    for _ in range(2):
        if not os.fork():
            work(0)
            while {alive}:  # it lives for longer than the shortest do
                time.sleep(0.01)
            for number in range(9):
                work(number)
            os._exit(0)
        os.wait()
if __name__ == "__main__":
    begin()
    if sys.argv[1:]:
        for number in range(10):
            work(number)
    else:
        {way}
    sync.stop()
"""


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_children_of_each_kind_record_their_blocks_and_runtime_series(
    tmp_path: Path, directory: Path, rows: Rows, way: str
) -> None:
    alive = "not background._State.running"
    (tmp_path / "program.py").write_text(_PROGRAM.format(way=way, alive=alive))
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert done.stderr == ""
    worked = Counter(done.stdout.split())
    assert worked.total() == 20
    assert Counter(row["PID"] for row in rows()) == worked
    assert {row["PID"] for row in rows("runtime")} > set(worked)
    verdicts = verify(directory, all_roots(str(directory)))
    assert [problem for each in verdicts for problem in each.problems] == []


def test_a_short_child_starts_no_thread(directory: Path, rows: Rows) -> None:
    """A child that records nothing starts none either."""
    program = """
import os, sys
from aqltelemetry import sync, time_block
from aqltelemetry.runtime import background
sync.start(sys.argv[1], interval_s=3600)
for has_work in (True, False):
    if not os.fork():
        if has_work:
            with time_block("child"):
                pass
        # A thread that waits to start the recording is all that there may be.
        os._exit(len(os.listdir("/proc/self/task")) - 1 - has_work)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
sync.stop()
"""
    subprocess.run([sys.executable, "-c", program, directory], check=True, timeout=60)
    assert len(rows()) == 1
    assert len({row["PID"] for row in rows("runtime")}) == 1


@pytest.mark.parametrize("start", ["sync.start('own')", "asyncio.run(use_monitor())"])
def test_a_recording_that_a_worker_starts_replaces_the_automatic_one(
    tmp_path: Path, directory: Path, rows: Rows, start: str
) -> None:
    """Both while the automatic one starts and after that."""
    program = f"""
import asyncio, multiprocessing, sys, time
from aqltelemetry import Monitor, sync, time_block
async def use_monitor():
    async with Monitor("own"):
        with time_block("own"):
            pass
def work(delay_s):
    time.sleep(delay_s)
    {start}
    if {start.startswith("sync")}:
        with time_block("own"):
            pass
        sync.stop()
if __name__ == "__main__":
    sync.start("monitoring")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(n / 400,)) for n in range(12)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    sync.stop()
    sys.exit(any(each.exitcode for each in workers))
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    own = "".join(path.read_text() for path in (tmp_path / "own").glob("duration.*.csv"))
    assert own.count(",own,") == 12
    assert rows() == []


def test_a_parents_user_defined_sinks_receive_what_its_children_record(
    tmp_path: Path, directory: Path
) -> None:
    """A child has no such sink, so it starts no recording."""
    program = """
import multiprocessing, os
from aqltelemetry import sync, time_block
from aqltelemetry.runtime import background
class Sink:
    found = 0
    async def write(self, batch):
        self.found += batch.pid != os.getpid() and batch.rows
        return [batch.segment]
    async def flush(self):
        return []
    async def close(self):
        pass
def work(number):
    with time_block("work"):
        pass
if __name__ == "__main__":
    sink = Sink()
    sync.start("monitoring", sinks=[sink], with_runtime=False)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, range(20))
        pool.close()
        pool.join()
    sync.stop()
    assert sink.found == 20, sink.found
"""
    (tmp_path / "program.py").write_text(program)
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, check=True, timeout=60)


_CELERY = """
import os
from celery import Celery
from aqltelemetry import sync, time_block
from aqltelemetry.runtime import background
if "RECORDS_ITSELF" in os.environ:
    sync.start("monitoring")
app = Celery("app", broker_url="filesystem://", broker_transport_options={
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"
})
@app.task
def add(number):
    with time_block("add"):
        open(f"done/{number}", "w").close()
if __name__ == "__main__":
    for number in range(20):
        add.delay(number)
"""


@pytest.mark.parametrize(
    ("options", "records_itself"),
    [
        ("-c 2", False),
        ("-c 2 --max-tasks-per-child 5", False),
        ("-c 2 --max-tasks-per-child 5", True),
        ("-P solo", False),
        ("-P threads -c 2", False),
    ],
)
def test_celery_is_recorded(tmp_path: Path, rows: Rows, options: str, records_itself: bool) -> None:
    (tmp_path / "app.py").write_text(_CELERY)
    for name in ("queue", "control", "done"):
        (tmp_path / name).mkdir()
    python = [sys.executable, "-m"]
    subprocess.run([sys.executable, "app.py"], cwd=tmp_path, check=True, timeout=60)
    environ = os.environ | ({"RECORDS_ITSELF": "1"} if records_itself else {})
    before = [] if records_itself else [*python, "aqltelemetry", "run", "--dir", "monitoring", "--"]
    worker = subprocess.Popen(
        [*before, *python, "celery", "-A", "app", "worker", *options.split()],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: len(list((tmp_path / "done").iterdir())) == 20, "all tasks")
    finally:
        worker.terminate()
        _, errors = worker.communicate(timeout=60)
    assert Counter(row["Label"] for row in rows()) == {"add": 20}, errors
    worked = {row["PID"] for row in rows()}
    assert worked <= {row["PID"] for row in rows("runtime")}
    assert len(worked) >= (4 if "child" in options else 1)
