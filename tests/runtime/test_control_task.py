"""A monitor carries out the requests to its running recording."""

from __future__ import annotations

import asyncio
import os
import pstats
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aqltelemetry import Monitor, record, sync, time_block
from aqltelemetry.errors import ProfilerError
from aqltelemetry.journal.inventory import take_inventory
from aqltelemetry.journal.location import all_roots
from aqltelemetry.recording import recorder
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.runtime import control_task
from aqltelemetry.runtime.control_files import ControlFiles, ControlRequests, ProfileResult
from aqltelemetry.runtime.control_task import ControlTask
from fakes import memory_segments, recording

Counts = Callable[..., Counter[str]]
Rows = Callable[..., list[dict[str, str]]]
_WRITER = "0123456789abcdef"


class FakeProfiler:
    """Lists the calls of its methods."""

    def __init__(self, path: Path, failure: Exception | None = None) -> None:
        self.path = str(path)
        self.failure = failure
        self.done: list[str] = []

    def start(self) -> None:
        if isinstance(self.failure, ProfilerError):
            raise self.failure
        self.done.append("started")

    def disable(self) -> None:
        self.done.append("disabled")

    def write(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.done.append("written")


@pytest.fixture
async def rig(
    tmp_path: Path,
) -> AsyncIterator[tuple[ControlTask, ControlFiles, FakeProfiler, Recording]]:
    controls = ControlFiles(str(tmp_path))
    profiler = FakeProfiler(tmp_path / "profile")
    current, _ = recording(*memory_segments(1))
    make = lambda form, seconds: profiler  # noqa: E731
    made = ControlTask(controls, _WRITER, current, make)  # type: ignore[arg-type]
    yield made, controls, profiler, current
    made.end()
    recorder.remove(current)


Rig = tuple[ControlTask, ControlFiles, FakeProfiler, Recording]


async def test_off_and_on_are_observations_and_nothing_is_recorded_in_between(rig: Rig) -> None:
    control, controls, _, current = rig
    recorder.install(current)
    controls.switch(on=False)
    await control.look()
    assert control.is_off
    assert not recorder.is_on()
    record("x", 1)
    assert current.segment.taken == 1
    controls.switch(on=True)
    await control.look()
    record("x", 1)
    assert current.segment.taken == 3


async def test_a_profile_lasts_as_long_as_requested(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, controls, profiler, _ = rig
    loop = asyncio.get_running_loop()
    now_s = [loop.time()]
    controls.request_profile(_WRITER, 10)
    monkeypatch.setattr(loop, "time", lambda: now_s[0])
    await control.look()
    now_s[0] += 9.9
    await control.look()
    assert profiler.done == ["started"]
    now_s[0] += 0.1
    await control.look()
    await control.look()
    assert profiler.done == ["started", "disabled", "written"]
    assert controls.profile_result(_WRITER) == ProfileResult(path=profiler.path)


async def test_a_cancelled_profile_ends(rig: Rig) -> None:
    control, controls, profiler, _ = rig
    controls.request_profile(_WRITER, 1000)
    await control.look()
    controls.cancel_profile(_WRITER)
    await control.look()
    assert profiler.done == ["started", "disabled", "written"]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ProfilerError("one is active"), "one is active"),
        (OSError(28, "no space"), "the profile can't be written: [Errno 28] no space"),
    ],
)
async def test_an_error_of_a_profile_is_its_result(
    rig: Rig, failure: Exception, error: str
) -> None:
    control, controls, profiler, _ = rig
    profiler.failure = failure
    controls.request_profile(_WRITER, 1e-9)
    await control.look()
    await control.look()
    assert controls.profile_result(_WRITER) == ProfileResult(error=error)


async def test_an_unexpected_error_of_a_profiler_leaves_the_switch_working(rig: Rig) -> None:
    control, controls, profiler, _ = rig
    profiler.failure = ValueError("odd")
    controls.request_profile(_WRITER, 1e-9)
    await control.look()
    await control.look()
    assert controls.profile_result(_WRITER) == ProfileResult(
        error="the profile can't be written: odd"
    )
    controls.switch(on=False)
    await control.look()
    assert control.is_off


async def test_the_end_of_a_recording_ends_its_profile(rig: Rig) -> None:
    control, controls, profiler, _ = rig
    controls.request_profile(_WRITER, 1000)
    task = asyncio.create_task(control.run())
    while not profiler.done:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert profiler.done == ["started", "disabled", "written"]


async def test_control_files_that_cannot_be_read_are_logged_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    control, controls, _, _ = rig

    def fail(writer: str) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr(controls, "requests", fail)
    await control.look()
    await control.look()
    assert caplog.text.count("can't carry out requests to the recording") == 1


async def test_the_event_loop_is_woken_by_requests_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, controls, profiler, current = rig
    recorder.install(current)
    loop = asyncio.get_running_loop()
    look, requests = control.look, controls.requests
    looks: list[bool] = []
    glances: list[str] = []
    glanced = asyncio.Event()

    async def counted() -> None:
        looks.append(recorder.is_on())
        await look()

    def noted(writer: str) -> ControlRequests:
        glances.append(writer)
        loop.call_soon_threadsafe(glanced.set)
        return requests(writer)

    monkeypatch.setattr(control, "look", counted)
    monkeypatch.setattr(controls, "requests", noted)
    task = asyncio.create_task(control.run())
    try:
        async with asyncio.timeout(30):
            while len(glances) < 4:
                glanced.clear()
                await glanced.wait()
            assert len(looks) == 1  # the first, before any wait
            for _ in range(2):
                # Asked for in the same words as the last, that had its answer.
                controls.request_profile(_WRITER, 1e-9)
                while controls.profile_result(_WRITER) is None:
                    await asyncio.sleep(0.01)
            assert profiler.done == ["started", "disabled", "written"] * 2
            controls.switch(on=False)
            while recorder.is_on():
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_cancelled_profile_makes_way_for_the_next(
    rig: tuple[ControlTask, ControlFiles, FakeProfiler, Recording],
) -> None:
    made, controls, profiler, _ = rig
    controls.request_profile(_WRITER, 60, token="a1")
    await made.look()
    controls.cancel_profile(_WRITER, "a1")
    controls.request_profile(_WRITER, 60, token="b2")
    await made.look()
    assert profiler.done == ["started", "disabled", "written"]
    assert controls.profile_result(_WRITER, "b2") is None
    await made.look()
    assert profiler.done == ["started", "disabled", "written", "started"]
    controls.cancel_profile(_WRITER, "b2")
    await made.look()


async def test_a_running_and_a_later_monitor_follow_the_switch(
    directory: Path, counts: Counts, rows: Rows
) -> None:
    async with Monitor(directory) as mine:
        controls = ControlFiles(str(directory))
        with time_block("before"):
            pass
        controls.switch(on=False)
        async with asyncio.timeout(10):
            while recorder.is_on():
                await asyncio.sleep(control_task.POLL_S)
        assert mine.stats().is_off
        with time_block("while off"):
            pass
    async with Monitor(directory) as mine:
        assert mine.stats().is_off
        with time_block("while off"):
            pass
        controls.switch(on=True)
        async with asyncio.timeout(10):
            while not recorder.is_on():
                await asyncio.sleep(control_task.POLL_S)
        with time_block("after"):
            pass
    assert counts() == {"before": 1, "after": 1}
    switched = [
        row["Measurement"] for row in rows("runtime") if row["Label"] == "telemetry switched on"
    ]
    assert switched == ["0.0", "1.0"]


async def test_the_child_of_a_recording_that_is_off_is_off(directory: Path, counts: Counts) -> None:
    async with Monitor(directory, with_runtime=False):
        ControlFiles(str(directory)).switch(on=False)
        async with asyncio.timeout(10):
            while recorder.is_on():
                await asyncio.sleep(control_task.POLL_S)
        pid = os.fork()
        if not pid:
            with time_block("child"):
                pass
            os._exit(recorder.is_on())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert counts() == {}


def test_the_threads_of_a_program_without_a_loop_are_profiled(directory: Path) -> None:
    """The caller's thread is profiled, although the monitor's event loop runs on another."""
    sync.start(directory)
    try:
        (me,) = take_inventory(all_roots(str(directory))).writers
        controls = ControlFiles(str(directory))
        controls.request_profile(me.writer, 0.3)
        while (answer := controls.profile_result(me.writer)) is None:
            _work_that_is_profiled()
    finally:
        sync.stop()
    assert answer == ProfileResult(path=str(directory / f"profiler.{os.getpid()}.data"))
    names = {name for *_, name in pstats.Stats(answer.path).stats}  # type: ignore[attr-defined]
    assert "_work_that_is_profiled" in names


def _work_that_is_profiled() -> int:
    return sum(range(1000))
