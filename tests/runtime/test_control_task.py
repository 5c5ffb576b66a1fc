"""What is asked of a running recording, done by its monitor."""

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
from aqltelemetry.journal.inventory import census
from aqltelemetry.journal.location import all_roots
from aqltelemetry.recording import recorder
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.runtime import control_task
from aqltelemetry.runtime.control_files import Answer, Controls, Wishes
from aqltelemetry.runtime.control_task import Remote
from fakes import memory_segments, recording

Counts = Callable[..., Counter[str]]
Rows = Callable[..., list[dict[str, str]]]
_WRITER = "0123456789abcdef"


class FakeProfiler:
    """Says what is done to it."""

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
async def rig(tmp_path: Path) -> AsyncIterator[tuple[Remote, Controls, FakeProfiler, Recording]]:
    controls = Controls(str(tmp_path))
    profiler = FakeProfiler(tmp_path / "profile")
    current, _ = recording(*memory_segments(1))
    make = lambda form, seconds: profiler  # noqa: E731
    made = Remote(controls, _WRITER, current, make)  # type: ignore[arg-type]
    made.begin()
    yield made, controls, profiler, current
    made.end()
    recorder.remove(current)


Rig = tuple[Remote, Controls, FakeProfiler, Recording]


async def test_off_and_on_are_observations_and_nothing_is_recorded_between(rig: Rig) -> None:
    remote_, controls, _, current = rig
    recorder.install(current)
    controls.switch(on=False)
    await remote_.look()
    assert remote_.is_off
    assert not recorder.is_on()
    record("x", 1)
    assert current.segment.taken == 1
    controls.switch(on=True)
    await remote_.look()
    record("x", 1)
    assert current.segment.taken == 3


async def test_a_profile_lasts_as_long_as_was_asked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote_, controls, profiler, _ = rig
    loop = asyncio.get_running_loop()
    now_s = [loop.time()]
    controls.ask_for_profile(_WRITER, 10)
    monkeypatch.setattr(loop, "time", lambda: now_s[0])
    await remote_.look()
    now_s[0] += 9.9
    await remote_.look()
    assert profiler.done == ["started"]
    now_s[0] += 0.1
    await remote_.look()
    await remote_.look()
    assert profiler.done == ["started", "disabled", "written"]
    assert controls.answered(_WRITER) == Answer(path=profiler.path)


async def test_a_profile_that_nobody_wants_any_more_ends(rig: Rig) -> None:
    remote_, controls, profiler, _ = rig
    controls.ask_for_profile(_WRITER, 1000)
    await remote_.look()
    controls.withdraw(_WRITER)
    await remote_.look()
    assert profiler.done == ["started", "disabled", "written"]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ProfilerError("one is active"), "one is active"),
        (OSError(28, "no space"), "the profile can't be written: [Errno 28] no space"),
    ],
)
async def test_what_went_wrong_is_answered(rig: Rig, failure: Exception, error: str) -> None:
    remote_, controls, profiler, _ = rig
    profiler.failure = failure
    controls.ask_for_profile(_WRITER, 1e-9)
    await remote_.look()
    await remote_.look()
    assert controls.answered(_WRITER) == Answer(error=error)


async def test_a_profiler_that_fails_as_none_should_leaves_the_switch_working(rig: Rig) -> None:
    remote_, controls, profiler, _ = rig
    profiler.failure = ValueError("odd")
    controls.ask_for_profile(_WRITER, 1e-9)
    await remote_.look()
    await remote_.look()
    assert controls.answered(_WRITER) == Answer(error="the profile can't be written: odd")
    controls.switch(on=False)
    await remote_.look()
    assert remote_.is_off


async def test_a_recording_that_ends_ends_its_profile(rig: Rig) -> None:
    remote_, controls, profiler, _ = rig
    controls.ask_for_profile(_WRITER, 1000)
    task = asyncio.create_task(remote_.run())
    while not profiler.done:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert profiler.done == ["started", "disabled", "written"]


async def test_files_that_cannot_be_read_are_told_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    remote_, controls, _, _ = rig

    def fail(writer: str) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr(controls, "wishes", fail)
    await remote_.look()
    await remote_.look()
    assert caplog.text.count("can't do what may be asked of the recording") == 1


async def test_the_event_loop_is_woken_by_what_is_asked_and_not_to_look(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote_, controls, profiler, current = rig
    recorder.install(current)
    loop = asyncio.get_running_loop()
    look, wishes = remote_.look, controls.wishes
    looks: list[bool] = []
    glances: list[str] = []
    glanced = asyncio.Event()

    async def counted() -> None:
        looks.append(recorder.is_on())
        await look()

    def noted(writer: str) -> Wishes:
        glances.append(writer)
        loop.call_soon_threadsafe(glanced.set)
        return wishes(writer)

    monkeypatch.setattr(remote_, "look", counted)
    monkeypatch.setattr(controls, "wishes", noted)
    task = asyncio.create_task(remote_.run())
    try:
        async with asyncio.timeout(30):
            while len(glances) < 4:
                glanced.clear()
                await glanced.wait()
            assert len(looks) == 1  # the first, before any wait
            for _ in range(2):
                # Asked for in the same words as the last, that had its answer.
                controls.ask_for_profile(_WRITER, 1e-9)
                while controls.answered(_WRITER) is None:
                    await asyncio.sleep(0.01)
            assert profiler.done == ["started", "disabled", "written"] * 2
            controls.switch(on=False)
            while recorder.is_on():
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_profile_that_nobody_waits_for_any_more_makes_way_for_the_next(
    rig: tuple[Remote, Controls, FakeProfiler, Recording],
) -> None:
    made, controls, profiler, _ = rig
    controls.ask_for_profile(_WRITER, 60, token="a1")
    await made.look()
    controls.withdraw(_WRITER, "a1")
    controls.ask_for_profile(_WRITER, 60, token="b2")
    await made.look()
    assert profiler.done == ["started", "disabled", "written"]
    assert controls.answered(_WRITER, "b2") is None
    await made.look()
    assert profiler.done == ["started", "disabled", "written", "started"]
    controls.withdraw(_WRITER, "b2")
    await made.look()


async def test_a_monitor_hears_of_the_switch_and_a_later_one_finds_it(
    directory: Path, counts: Counts, rows: Rows
) -> None:
    async with Monitor(directory) as mine:
        controls = Controls(str(directory))
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


async def test_a_child_of_a_recording_that_is_off_is_off(directory: Path, counts: Counts) -> None:
    async with Monitor(directory, with_runtime=False):
        Controls(str(directory)).switch(on=False)
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
    """This one's, though the monitor's loop is on another."""
    sync.start(directory)
    try:
        (me,) = census(all_roots(str(directory))).residents
        controls = Controls(str(directory))
        controls.ask_for_profile(me.writer, 0.3)
        while (answer := controls.answered(me.writer)) is None:
            _work_that_is_profiled()
    finally:
        sync.stop()
    assert answer == Answer(path=str(directory / f"profiler.{os.getpid()}.data"))
    names = {name for *_, name in pstats.Stats(answer.path).stats}  # type: ignore[attr-defined]
    assert "_work_that_is_profiled" in names


def _work_that_is_profiled() -> int:
    return sum(range(1000))
