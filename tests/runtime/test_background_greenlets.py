"""`sync` in programs in which gevent or eventlet replaces threads by greenlets."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

Counts = Callable[..., Counter[str]]

_GEVENT = """
import gevent
from gevent import monkey
spawn, sleep = gevent.spawn, gevent.sleep
def join(greenlets):
    return [each.get() for each in greenlets]
"""
# It warns, when it is imported, that it is deprecated.
_EVENTLET = """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import eventlet
spawn, sleep = eventlet.spawn, eventlet.sleep
def join(greenlets):
    return [each.wait() for each in greenlets]
"""
_IMPORT = "from aqltelemetry import sync, time_block\n"
_ORDERS = {
    "gevent first": _GEVENT + "monkey.patch_all()\n" + _IMPORT,
    "gevent later": _IMPORT + _GEVENT + "monkey.patch_all()\n",
    "gevent without time": _GEVENT + "monkey.patch_all(time=False)\n" + _IMPORT,
    "eventlet first": _EVENTLET + "eventlet.monkey_patch()\n" + _IMPORT,
    "eventlet later": _IMPORT + _EVENTLET + "eventlet.monkey_patch()\n",
    "eventlet without threads": _EVENTLET + "eventlet.monkey_patch(thread=False)\n" + _IMPORT,
    "eventlet only threads": _EVENTLET + "eventlet.monkey_patch(thread=True)\n" + _IMPORT,
    "eventlet only time": _EVENTLET + "eventlet.monkey_patch(time=True)\n" + _IMPORT,
}


@pytest.fixture(params=_ORDERS)
def start(request: pytest.FixtureRequest) -> str:
    return _ORDERS[str(request.param)]


def _run(program: str, directory: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", program, str(directory)]
    subprocess.run(command, check=True, timeout=60)


def test_each_greenlet_is_measured_by_itself(
    directory: Path, counts: Counts, rows: Callable[..., list[dict[str, str]]], start: str
) -> None:
    """They enter one block simultaneously and leave it in the same order."""
    program = """
import sys
sync.start(sys.argv[1])
block = time_block("x")
has_left = []
def first():
    with block:
        sleep(0.05)
    has_left.append(0)
def work(number):
    with block:
        while len(has_left) < number:
            sleep(0.001)
    has_left.append(number)
join([spawn(first), *(spawn(work, number) for number in (1, 2, 3))])
assert sync.stop().published
"""
    _run(start + program, directory)
    assert counts() == {"x": 4}
    assert all(float(row["Measurement"]) >= 0.05 for row in rows())
    assert counts("runtime")["gc collections"] >= 1


def test_the_threads_of_the_recording_are_real_threads(directory: Path, start: str) -> None:
    """They publish while no greenlet of the application can run."""
    program = """
import sys
from pathlib import Path
sync.start(sys.argv[1], flush_interval_s=0.05, max_file_age_s=0.05)
while not list(Path(sys.argv[1]).glob("runtime.*.csv")):
    pass
sync.stop()
"""
    _run(start + program, directory)


def test_greenlets_run_while_one_waits_for_the_recording(directory: Path, start: str) -> None:
    """A greenlet releases the sink while another one waits in `flush`."""
    program = """
import asyncio, sys
begun, may_go_on = [], []
class Sink:
    async def write(self, batch):
        begun.append(True)
        while not may_go_on:
            await asyncio.sleep(0.001)
        return [batch.segment]
    async def flush(self):
        return []
    async def close(self):
        pass
def let_go():
    while not begun:
        sleep(0.001)
    may_go_on.append(True)
spawn(let_go)
sync.start(sys.argv[1], sinks=[Sink()])
with time_block("x"):
    pass
sync.flush()
assert may_go_on
sync.stop()
"""
    _run(start + program, directory)


def test_greenlets_that_start_at_once_get_one_recording(directory: Path, start: str) -> None:
    program = """
import sys
from aqltelemetry.errors import AlreadyRunningError
def begin():
    try:
        sync.start(sys.argv[1])
    except AlreadyRunningError:
        return "refused"
outcomes = join([spawn(begin) for _ in range(5)])
assert sorted(map(str, outcomes)) == ["None"] + ["refused"] * 4, outcomes
sync.stop()
"""
    _run(start + program, directory)


def test_a_process_that_ends_without_a_stop_publishes_at_its_exit(
    directory: Path, counts: Counts, start: str
) -> None:
    program = """
import sys
sync.start(sys.argv[1])
with time_block("x"):
    pass
"""
    _run(start + program, directory)
    assert counts() == {"x": 1}


def test_a_signal_handler_may_flush_while_no_greenlet_runs(
    directory: Path, counts: Counts, start: str
) -> None:
    """The handler runs in the library's event loop, where no greenlet can wait."""
    program = """
import signal, sys
flushed = []
def handle(number, frame):
    sync.flush()
    flushed.append(number)
signal.signal(signal.SIGALRM, handle)
sync.start(sys.argv[1])
with time_block("x"):
    pass
signal.setitimer(signal.ITIMER_REAL, 0.02)
while not flushed:
    sleep(0.05)
sync.stop()
"""
    _run(start + program, directory)
    assert counts() == {"x": 1}


def test_without_uvloop_a_start_raises(directory: Path, start: str) -> None:
    program = """
import sys
from aqltelemetry.errors import StateError
sys.modules["uvloop"] = None
try:
    sync.start(sys.argv[1])
except StateError as exc:
    assert "needs uvloop" in str(exc)
else:
    raise AssertionError
"""
    _run(start + program, directory)
