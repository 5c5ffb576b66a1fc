"""If any step of a start fails, the steps before it are undone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import aqltelemetry
from aqltelemetry import Monitor, sync, time_block
from aqltelemetry.errors import AlreadyRunningError, NotRunningError
from aqltelemetry.journal.location import all_roots
from aqltelemetry.protocols import Append
from aqltelemetry.recording import recorder
from aqltelemetry.runtime import monitor as monitors
from aqltelemetry.settings import Settings

Counts = Callable[..., Counter[str]]
_PACKAGE = str(Path(aqltelemetry.__file__).parent)
# What carries the other steps to threads; what gives back; the beginning of what undoes, or
# of a task; and generators, which are entered once more when they are closed.
_NO_STEPS = (
    *("threads.py:", "loop_thread.py:", "logs.py:"),
    *("syscalls.py:close", "open_session", "Session._start", "<genexpr>"),
)
_ON_THREADS = {"_assemble"}


class _StepError(Exception):
    """A step of a start that fails."""


class _Attached:
    """A sampler that observes something between its samples; `attach` may fail."""

    prefix = "custom"
    interval_s: float | None = None

    def __init__(self, failure: type[Exception] | None = None) -> None:
        self.failure = failure
        self.is_attached = False

    async def sample(self) -> list[Any]:
        return []

    def attach(self, append: Append) -> None:
        self.is_attached = True
        if self.failure is not None:
            raise self.failure("no")

    def detach(self) -> None:
        self.is_attached = False


@contextlib.contextmanager
def _failing(at: int) -> Iterator[list[str]]:
    """Make the step with this number raise, on its thread; yield the list of steps."""
    steps: list[str] = []
    main = threading.get_ident()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        del argument
        if event != "call" or not frame.f_code.co_filename.startswith(_PACKAGE):
            return
        name = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_code.co_qualname}"
        if any(each in name for each in _NO_STEPS):
            return
        if threading.get_ident() != main and not _is_called_by(frame, _ON_THREADS):
            return
        steps.append(name)
        if len(steps) - 1 == at:
            raise _StepError(name)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield steps
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _is_called_by(frame: FrameType | None, names: set[str]) -> bool:
    while frame is not None:
        if frame.f_code.co_name in names:
            return True
        frame = frame.f_back
    return False


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("aqltelemetry")]


def _descriptors(directory: Path) -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(each for each in found if each.startswith(str(directory)))


async def _check_nothing_on(directory: Path, monitor: Monitor, callbacks: list[Any]) -> None:
    assert not recorder.is_on()
    assert not monitor.is_running
    with pytest.raises(NotRunningError):
        await monitor.stop()
    assert gc.callbacks == callbacks
    for turn in range(1, 20_000):  # on a busy machine threads end late
        if len(asyncio.all_tasks()) == 1 and not (_threads() or _descriptors(directory)):
            return
        if turn % 10 == 0:
            gc.collect()  # maps of segments are in cycles
        await asyncio.sleep(0.001)
    pytest.fail(
        f"{directory}: {_threads()}, {_descriptors(directory)}, {asyncio.all_tasks()} are left"
    )


@pytest.mark.system
async def test_a_start_that_fails_in_any_step_leaves_nothing_on(
    directory: Path, counts: Counts
) -> None:
    callbacks = list(gc.callbacks)
    async with Monitor(directory):  # so that what is imported once is imported
        pass
    reached: set[str] = set()
    failed, at = 0, 0
    while True:
        sampler = _Attached()
        monitor = Monitor(directory, samplers=[sampler])
        with _failing(at) as steps, contextlib.suppress(_StepError):
            await monitor.start()
        if monitor.is_running:  # it went on, by another way
            await monitor.stop()
        else:
            failed += 1
        assert not sampler.is_attached
        await _check_nothing_on(directory, monitor, callbacks)
        reached.update(steps)
        if len(steps) <= at:
            break
        at += 1
    assert {"csv_file.py:CsvSink.__init__", "segment_pool.py:SegmentPool.open"} < reached
    assert failed > 100
    async with Monitor(directory):
        with time_block("after it"):
            pass
    assert counts() == {"after it": 1}
    assert [path for root in all_roots(str(directory)) for path in root.glob("*")] == []


@pytest.mark.parametrize("failure", [RuntimeError, MemoryError, OSError])
@pytest.mark.parametrize("position", [0, 1])
async def test_a_sampler_that_cannot_be_attached_prevents_the_start(
    directory: Path, counts: Counts, failure: type[Exception], position: int
) -> None:
    callbacks = list(gc.callbacks)
    samplers = [_Attached(), _Attached()]
    samplers[position].failure = failure
    monitor = Monitor(directory, samplers=samplers)
    with pytest.raises(failure):
        await monitor.start()
    assert not any(each.is_attached for each in samplers)
    await _check_nothing_on(directory, monitor, callbacks)
    samplers[position].failure = None
    async with monitor:
        with time_block("now"):
            pass
    assert counts() == {"now": 1}


def test_a_failed_start_without_an_event_loop_leaves_nothing_on(
    directory: Path, counts: Counts
) -> None:
    sampler = _Attached(RuntimeError)
    with pytest.raises(RuntimeError, match="no"):
        sync.start(directory, samplers=[sampler])
    assert not recorder.is_on()
    with pytest.raises(NotRunningError):
        sync.stop()
    sync.start(directory)
    with time_block("now"):
        pass
    sync.stop()
    assert counts() == {"now": 1}


@pytest.mark.parametrize("number", range(1, 4))
def test_a_thread_that_cannot_be_started_prevents_the_start(
    directory: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As in a container with a limit of processes: the thread of the loop, journal or sinks."""
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("aqltelemetry"):
            started.append(thread.name)
            if len(started) == number:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(Exception, match="can't start new thread"):
        sync.start(directory)
    assert len(started) == number
    assert not recorder.is_on()
    for thread in threading.enumerate():
        if thread.name.startswith("aqltelemetry"):
            thread.join(10)
    assert _threads() == []
    monkeypatch.undo()
    sync.start(directory)
    sync.stop()


async def test_a_start_that_is_cancelled_in_any_turn_leaves_nothing_on(
    directory: Path, counts: Counts
) -> None:
    callbacks = list(gc.callbacks)
    async with Monitor(directory):
        pass
    for turns in range(40):
        monitor = Monitor(directory)
        starting = asyncio.create_task(monitor.start())
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        if starting.cancelled():
            await _check_nothing_on(directory, monitor, callbacks)
        else:
            await monitor.stop()
    async with monitor:
        with time_block("after it"):
            pass
    assert counts() == {"after it": 1}


async def test_an_automatic_start_that_was_overtaken_does_not_record(
    tmp_path: Path, directory: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Monitor(tmp_path / "late")
    late.auto_started = True
    may_go_on = threading.Event()
    installed: list[recorder.Recording] = []
    assemble, install = monitors._assemble, recorder.install

    def slow(chosen: Settings, *others: Any) -> Any:
        if chosen.directory.endswith("late"):
            may_go_on.wait(60)
        return assemble(chosen, *others)

    def noted(recording: recorder.Recording) -> None:
        installed.append(recording)
        install(recording)

    monkeypatch.setattr(monitors, "_assemble", slow)
    monkeypatch.setattr(recorder, "install", noted)
    starting = asyncio.create_task(late.open())
    await asyncio.sleep(0)
    async with Monitor(directory):
        may_go_on.set()
        with pytest.raises(AlreadyRunningError):
            await starting
        with time_block("ours"):
            pass
    assert len(set(map(id, installed))) == 1
    assert counts() == {"ours": 1}
    assert list((tmp_path / "late").glob("*.csv")) == []


async def test_a_start_that_was_overtaken_meanwhile_records_again(
    tmp_path: Path, directory: Path, counts: Counts
) -> None:
    ours = Monitor(directory)
    await ours.open()
    recorder.switch_off()  # as an automatic start does that gives way
    await ours.take_over()
    with time_block("ours"):
        pass
    await ours.stop()
    assert counts() == {"ours": 1}
