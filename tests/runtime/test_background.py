from __future__ import annotations

import asyncio
import os
import pstats
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aqltelemetry import Monitor, sync
from aqltelemetry.errors import (
    AlreadyRunningError,
    MonitoringDirectoryError,
    NotRunningError,
    OptionError,
    ProfilerError,
)
from aqltelemetry.recording import recorder
from published_names import is_published

Counts = Callable[..., Counter[str]]
Rows = Callable[..., list[dict[str, str]]]


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    if recorder.is_on():
        sync.stop()


def test_what_happens_between_start_and_stop_is_in_the_files(
    directory: Path, counts: Counts
) -> None:
    sync.start(directory)
    with sync.time_block("block"):
        pass
    assert sync.time_it(label="function")(len)("") == 0
    sync.record("queue", 7)
    stats = sync.stop()
    assert counts() == {"block": 1, "function": 1}
    assert counts("custom") == {"queue": 1}
    assert counts("runtime")["gc collections"] >= 1
    assert sum(counts("*").values()) == stats.published
    assert all(is_published(path.name) for path in directory.rglob("*"))


def test_recording_is_on_when_start_returns(directory: Path) -> None:
    sync.start(directory)
    assert recorder.is_on()


def test_the_event_loop_of_the_recording_is_not_sampled(directory: Path, counts: Counts) -> None:
    sync.start(directory)
    sync.stop()
    assert not {"event loop lag", "tasks"} & set(counts("runtime"))


def test_a_duration_may_begin_and_end_in_different_functions_and_threads(
    directory: Path, counts: Counts
) -> None:
    sync.start(directory, with_runtime=False)
    first, second = sync.start_duration_sample(), sync.start_duration_sample()
    sync.stop_duration_sample("second", second)
    thread = threading.Thread(target=sync.stop_duration_sample, args=("first", first))
    thread.start()
    thread.join()
    sync.stop()
    assert counts() == {"first": 1, "second": 1}


def test_a_duration_that_starts_while_recording_is_off_is_not_recorded(
    directory: Path, counts: Counts
) -> None:
    early = sync.start_duration_sample()
    sync.start(directory, with_runtime=False)
    sync.stop_duration_sample("early", early)
    late = sync.start_duration_sample()
    sync.stop()
    sync.stop_duration_sample("late", late)
    assert counts() == {}


def test_a_flush_publishes_what_was_recorded(directory: Path, counts: Counts) -> None:
    sync.start(directory, with_runtime=False)
    with sync.time_block("x"):
        pass
    sync.flush()
    assert counts() == {"x": 1}
    assert sync.stats().published == 1


@pytest.mark.parametrize(
    ("where", "options", "error"),
    [
        ("m", {"interval_s": 0}, OptionError),
        ("m", {"no_such_option": 1}, OptionError),
        ("/proc/monitoring", {}, MonitoringDirectoryError),
    ],
)
def test_a_failed_start_raises_in_the_caller_and_leaves_nothing_on(
    tmp_path: Path, where: str, options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        sync.start(tmp_path / where, **options)  # type: ignore[arg-type]
    assert not recorder.is_on()
    sync.start(tmp_path / "m")


def test_a_second_start_and_a_second_stop_raise(directory: Path) -> None:
    with pytest.raises(NotRunningError):
        sync.stop()
    sync.start(directory)
    with pytest.raises(AlreadyRunningError, match=str(directory)):
        sync.start(directory)
    sync.stop()
    for call in (sync.stop, sync.flush, sync.stats):
        with pytest.raises(NotRunningError):
            call()


async def test_a_start_raises_while_an_asynchronous_monitor_runs(directory: Path) -> None:
    async with Monitor(directory):
        with pytest.raises(AlreadyRunningError):
            await asyncio.to_thread(sync.start, directory)


def test_a_recording_can_be_started_again(directory: Path, counts: Counts) -> None:
    for _ in range(3):
        sync.start(directory, with_runtime=False)
        with sync.time_block("x"):
            pass
        sync.stop()
    assert counts() == {"x": 3}


def test_the_callers_thread_is_profiled(directory: Path) -> None:
    sync.start(directory, with_profiler=True)
    _profiled()
    sync.stop()
    profile = directory / f"profiler.{os.getpid()}.data"
    assert "_profiled" in {name for *_, name in pstats.Stats(str(profile)).stats}  # type: ignore[attr-defined]


def _profiled() -> None:
    sum(range(10))


def test_a_second_profiler_is_refused_and_nothing_is_left_running(directory: Path) -> None:
    sys.setprofile(lambda frame, event, arg: None)
    try:
        with pytest.raises(ProfilerError):
            sync.start(directory, with_profiler=True)
    finally:
        sys.setprofile(None)
    assert not recorder.is_on()


def test_a_process_that_ends_without_a_stop_publishes_at_its_exit(
    directory: Path, counts: Counts
) -> None:
    program = f"""
from aqltelemetry import sync
sync.start({str(directory)!r})
with sync.time_block("x"):
    pass
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
    assert counts() == {"x": 1}
    assert all(is_published(path.name) for path in directory.rglob("*"))


_LONGER = """
import time
from pathlib import Path
while not list(Path(sys.argv[1]).glob("runtime.*.csv")):
    time.sleep(0.001)
"""
_EVALUATING = """
class Sink:
    async def write(self, batch):
        return [batch.segment]
    async def flush(self):
        return []
    async def close(self):
        eval("1 + 1")
import psutil
"""
_ENDS = {
    "interrupted": "raise KeyboardInterrupt",
    "interrupted in a function": "def work():\n    raise KeyboardInterrupt\nwork()",
    "by a signal": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)",
    "a subclass": "class Stop(KeyboardInterrupt):\n    pass\nraise Stop",
    "handled": "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    pass",
    "handled, then a code": "try:\n    raise KeyboardInterrupt\nfinally:\n    sys.exit(7)",
    "a code": "sys.exit(3)",
    "another exception": "raise ValueError",
    "nothing": "",
    "reported, not ended": (
        "try:\n    raise KeyboardInterrupt\nexcept BaseException as exc:\n"
        "    sys.last_type, sys.last_value = type(exc), exc\n"
        "    sys.last_traceback = exc.__traceback__.tb_next\nsys.exit(2)"
    ),
}


def _exit_status(program: str, directory: Path, *before: str) -> int:
    script = directory.parent / "interrupted.py"
    script.write_text(program)
    arguments = (*before, "-m", "interrupted") if before else (str(script),)
    return subprocess.run(
        [sys.executable, *arguments, str(directory)],
        cwd=directory.parent,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    ).returncode


@pytest.mark.parametrize("end", _ENDS.values(), ids=_ENDS)
def test_the_exit_status_is_the_same_as_without_recording(
    directory: Path, counts: Counts, end: str
) -> None:
    program = "import sys\nfrom aqltelemetry import sync\n{}\n" + end
    recorded = "sync.start(sys.argv[1])\nwith sync.time_block('x'):\n    pass"
    bare = _exit_status(program.format(""), directory)
    assert _exit_status(program.format(recorded), directory) == bare
    assert counts() == {"x": 1}


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "pure"])
@pytest.mark.parametrize(
    ("before", "start"),
    [
        ("", "sync.start(sys.argv[1])"),
        ("", "sync.start(sys.argv[1], flush_interval_s=0.05, max_file_age_s=0.05)" + _LONGER),
        (_EVALUATING, "sync.start(sys.argv[1], sinks=[Sink()])"),
    ],
    ids=["short", "longer", "a sink that evaluates"],
)
def test_an_interrupted_program_ends_by_the_signal(
    directory: Path, monkeypatch: pytest.MonkeyPatch, before: str, start: str, is_compiled: bool
) -> None:
    if not is_compiled:
        monkeypatch.setenv("AQLTELEMETRY_NO_EXTENSIONS", "1")
    program = (
        f"import sys\nfrom aqltelemetry import sync\n{before}\n{start}\n{_ENDS['interrupted']}"
    )
    assert _exit_status(program, directory) == -signal.SIGINT


def test_an_interrupted_module_ends_by_the_signal(directory: Path) -> None:
    program = """
import sys
from aqltelemetry import sync
sync.start(sys.argv[1])
raise KeyboardInterrupt
"""
    assert _exit_status(program, directory, "-W", "error") == -signal.SIGINT


def test_a_forked_child_records_and_can_start_a_recording(directory: Path, rows: Rows) -> None:
    sync.start(directory, with_runtime=False)
    with sync.time_block("parent"):
        pass
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with pytest.raises(NotRunningError):
                sync.stop()
            sync.start(directory, with_runtime=False)
            with sync.time_block("child"):
                pass
            sync.stop()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    sync.stop()
    assert {(row["Label"], int(row["PID"])) for row in rows()} == {
        ("parent", os.getpid()),
        ("child", pid),
    }


def test_the_import_starts_no_thread_and_registers_nothing() -> None:
    program = """
import asyncio, atexit, os, random, threading
def refuse(**hooks):
    raise AssertionError(hooks)
os.register_at_fork = refuse
before = atexit._ncallbacks()
from aqltelemetry import sync
assert atexit._ncallbacks() == before
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


_INTERRUPTED_RECORDS = """
import gc, signal, sys, threading
from aqltelemetry import sync

handled = 0

def handle(signal_number, frame):
    global handled
    handled += 1
    with sync.time_block("in a signal handler"):
        sync.record("value", 1)

class Cycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        with sync.time_block("in a finalizer"):
            sync.record("value", 1)

def work():
    for _ in range(2000):
        Cycle()
        with sync.time_block("in a thread"):
            pass

sync.start(sys.argv[1], with_runtime=False, flush_interval_s=0.05)
sys.setswitchinterval(1e-6)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
work()
while handled < 100:
    with sync.time_block("in the main thread"):
        pass
for thread in threads:
    thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
gc.callbacks.clear()
gc.collect()
stats = sync.stop()
print(handled, stats.recorded, stats.published, sum(stats.dropped.values()))
"""


def test_signal_handlers_and_finalizers_interrupt_records_without_a_loss(
    directory: Path, counts: Counts
) -> None:
    command: list[str | Path] = [sys.executable, "-c", _INTERRUPTED_RECORDS, directory]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    handled, recorded, published, dropped = map(int, ran.stdout.split())
    assert recorded == published + dropped
    durations = counts()
    lost = {
        "in a signal handler": handled - durations["in a signal handler"],
        "in a finalizer": 8000 - durations["in a finalizer"],
        "in a thread": 8000 - durations["in a thread"],
    }
    assert 0 <= sum(lost.values()) <= dropped
    assert min(lost.values()) >= 0
