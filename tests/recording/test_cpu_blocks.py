"""Blocks and functions with CPU time, alone and interleaved, on asyncio and uvloop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqltelemetry import time_block, time_it
from aqltelemetry.journal.reader import read_segment
from aqltelemetry.observation import CPU_TIME, DURATION
from aqltelemetry.recording import cpu_time, recorder
from aqltelemetry.recording.cpu_blocks import CpuTimeBlock
from aqltelemetry.recording.cpu_time import unknown_count
from fakes import FakeClock, memory_segments, recording

Plan: TypeAlias = "list[int | str | Plan]"
Found: TypeAlias = dict[str, list[float]]


class Times:
    """Both clocks, and what is recorded, by prefix."""

    def __init__(self, clock: FakeClock, cpu: FakeClock, segment: Any) -> None:
        self._clock, self._cpu, self._segment = clock, cpu, segment

    def burn(self, number_ns: int) -> None:
        """Let the thread run."""
        self._clock.now_ns += number_ns
        self._cpu.now_ns += number_ns

    def wait(self, number_ns: int) -> None:
        """Let time pass without running."""
        self._clock.now_ns += number_ns

    def of(self, prefix: str) -> Found:
        """Return what was recorded by label."""
        batch = read_segment(self._segment.map[:], recovered=True, yield_gil=lambda: None).batch
        columns = [column for column in batch.columns if column.series.prefix == prefix]
        return {column.series.label: [*column.values] for column in columns}

    @property
    def both(self) -> tuple[Found, Found]:
        """The durations and the CPU times."""
        return self.of(DURATION), self.of(CPU_TIME)


@contextmanager
def _times() -> Iterator[Times]:
    clock, cpu = FakeClock(), FakeClock()
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_time, "thread_cpu_ns", cpu)
        recorder.set_clock(clock)
        recorder.install(session)
        try:
            yield Times(clock, cpu, segment)
        finally:
            recorder.remove(session)
            recorder.set_clock(None)


@pytest.fixture
def times() -> Iterator[Times]:
    with _times() as found:
        yield found


def test_a_block_of_a_thread_has_its_duration_and_its_cpu_time(times: Times) -> None:
    with time_block("block", cpu=True) as given_object:
        times.burn(3)
        times.wait(10)
    assert given_object is None
    assert times.both == ({"block": [13]}, {"block": [3]})


def test_a_block_without_cpu_time_is_what_it_was(times: Times) -> None:
    with time_block("block", cpu=False):
        times.burn(3)
    assert type(time_block("x", cpu=False)) is type(time_block("x")) is time_block
    assert times.both == ({"block": [3]}, {})


def test_a_block_with_cpu_time_is_a_block() -> None:
    block = time_block("x", cpu=True)
    assert isinstance(block, time_block)
    assert type(block) is CpuTimeBlock
    with pytest.raises(TypeError):
        time_block("x", cpus=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        time_block(cpu=True)  # type: ignore[call-arg]


def test_nothing_is_recorded_while_recording_is_off() -> None:
    before = unknown_count()
    block = time_block("x", cpu=True)
    with block:
        pass
    assert unknown_count() == before


def test_nested_blocks_and_one_block_entered_twice_count_each_entry(times: Times) -> None:
    block = time_block("same", cpu=True)
    with block:
        times.burn(1)
        with block, time_block("inner", cpu=True):
            times.burn(2)
            times.wait(5)
        times.burn(4)
    assert times.both == ({"inner": [7], "same": [7, 12]}, {"inner": [2], "same": [2, 7]})


def test_a_block_that_fails_has_its_cpu_time_once(times: Times) -> None:
    with pytest.raises(KeyError), time_block("block", cpu=True):
        times.burn(1)
        raise KeyError
    assert times.both == ({"block": [1], "block failed": [1]}, {"block": [1]})


def test_threads_share_a_block(times: Times) -> None:
    block, inside, left = time_block("block", cpu=True), threading.Event(), threading.Event()

    def work() -> None:
        with block:
            inside.set()
            left.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    with block:
        times.burn(2)
    left.set()
    thread.join()
    assert sorted(times.of(CPU_TIME)["block"]) == [2, 2]  # of one fake clock


def test_a_block_decorates_a_function(times: Times) -> None:
    @time_block("function", cpu=True)
    async def work() -> None:
        times.burn(1)
        await asyncio.sleep(0)
        times.burn(1)

    asyncio.run(work())
    assert times.both == ({"function": [2]}, {"function": [2]})


def test_a_suspended_block_that_is_not_measured_has_none(times: Times) -> None:
    before = unknown_count()

    async def work() -> None:
        async with time_block("suspended", cpu=True):
            await asyncio.sleep(0)
        async with time_block("not suspended", cpu=True):
            times.burn(1)

    asyncio.run(work())
    assert unknown_count() - before == 1
    assert times.both == ({"suspended": [0], "not suspended": [1]}, {"not suspended": [1]})


_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_PLANS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(1, 9), st.sampled_from(["turn", "future", "thread"])),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


class _Model:
    """Runs plans, and notes what each block has to have."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self.own: dict[str, int] = {}
        self.suspended: set[str] = set()

    async def run(self, plan: Plan, label: str) -> tuple[int, bool]:
        """Return the CPU time of a plan, and whether it was suspended."""
        spent, is_suspended = 0, False
        for number, item in enumerate(plan):
            if isinstance(item, list):
                name = f"{label}.{number}"
                block = time_block(name, cpu=True)
                if number % 2:
                    with block:
                        inner, turned = await self.run(item, name)
                else:
                    async with block:
                        inner, turned = await self.run(item, name)
                self.own[name] = inner
                if turned:
                    self.suspended.add(name)
                spent, is_suspended = spent + inner, is_suspended or turned
            elif isinstance(item, int):
                self._times.burn(item)
                spent += item
            else:
                await self._pause(item)
                is_suspended = True
        return spent, is_suspended

    @staticmethod
    async def _pause(how: str) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if how == "turn":
            await asyncio.sleep(0)
        elif how == "future":
            loop.call_soon(future.set_result, None)
            await future
        else:
            loop.call_soon_threadsafe(future.set_result, None)
            await future


@pytest.mark.parametrize("loop", _LOOPS)
@given(
    plans=st.lists(st.lists(_PLANS, max_size=4), min_size=2, max_size=3), is_measured=st.booleans()
)
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_interleaved_tasks_count_their_own_time_only(
    loop: str, plans: list[Plan], is_measured: bool
) -> None:
    with _times() as times:
        model, before = _Model(times), unknown_count()

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for number, plan in enumerate(plans):
                    work = model.run
                    if is_measured:
                        work = time_it(label=f"task {number}", cpu=True)(work)
                    group.create_task(work(plan, f"{number}"))

        with asyncio.Runner(loop_factory=_LOOPS[loop]) as runner:
            runner.run(main())
        found = {label: value for label, (value,) in times.of(CPU_TIME).items()}
        unknown = set() if is_measured else model.suspended
        tasks = {label: found.pop(label) for label in list(found) if label.startswith("task")}
        assert found == {label: own for label, own in model.own.items() if label not in unknown}
        assert unknown_count() - before == len(unknown)
        assert len(tasks) == (len(plans) if is_measured else 0)


def test_a_function_has_the_cpu_time_of_its_call(times: Times) -> None:
    @time_it(label="function", cpu=True)
    def work() -> int:
        times.burn(2)
        times.wait(1)
        return 5

    assert work() == 5
    assert times.both == ({"function": [3]}, {"function": [2]})


def test_a_coroutine_function_stays_one(times: Times) -> None:
    async def work(number: int) -> int:
        times.burn(number)
        await asyncio.sleep(0)
        return number

    timed = time_it(label="work", cpu=True)(work)
    assert inspect.iscoroutinefunction(timed)
    assert inspect.signature(timed) == inspect.signature(work)

    async def main() -> list[int]:
        return list(await asyncio.gather(timed(1), timed(2)))

    assert asyncio.run(main()) == [1, 2]
    assert sorted(times.of(CPU_TIME)["work"]) == [1, 2]


def test_a_coroutine_that_fails_has_its_cpu_time(times: Times) -> None:
    @time_it(label="work", cpu=True)
    async def work() -> None:
        times.burn(1)
        await asyncio.sleep(0)
        raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(work())
    assert times.both == ({"work": [1], "work failed": [1]}, {"work": [1]})


def test_a_generator_has_the_cpu_time_of_its_own_steps(times: Times) -> None:
    @time_it(label="items", cpu=True)
    def items() -> Iterator[int]:
        for number in range(3):
            times.burn(1)
            yield number

    assert inspect.isgeneratorfunction(items)
    for _ in items():
        times.burn(100)
    assert times.both == ({"items": [303]}, {"items": [3]})


def test_an_asynchronous_generator_has_the_cpu_time_of_its_own_steps(times: Times) -> None:
    @time_it(label="items", cpu=True)
    async def items() -> AsyncIterator[int]:
        for number in range(3):
            times.burn(1)
            await asyncio.sleep(0)
            yield number

    async def main() -> list[int]:
        found = []
        async for item in items():
            times.burn(100)
            found.append(item)
        return found

    assert inspect.isasyncgenfunction(items)
    assert asyncio.run(main()) == [0, 1, 2]
    assert times.both == ({"items": [303]}, {"items": [3]})


def test_a_returned_coroutine_or_generator_counts_with_the_call(times: Times) -> None:
    async def run() -> None:
        times.burn(2)
        await asyncio.sleep(0)

    def burned() -> int:
        times.burn(3)
        return 5

    @time_it(label="returned", cpu=True)
    def make(kind: str) -> Any:
        times.burn(1)
        if kind == "coroutine":
            return run()
        return (burned() for _ in range(2))

    async def main() -> None:
        made = make("coroutine")
        times.burn(50)
        await made

    asyncio.run(main())
    assert [*make("generator")] == [5, 5]
    assert times.of(CPU_TIME) == {"returned": [3, 7]}


def test_a_context_manager_has_the_cpu_time_of_its_block(times: Times) -> None:
    @time_it(label="manager", cpu=True)
    @contextmanager
    def manager() -> Iterator[None]:
        times.burn(1)
        yield

    with manager():
        times.burn(2)
        times.wait(1)
    assert times.both == ({"manager": [4]}, {"manager": [3]})


def test_a_returned_task_has_a_duration_only(times: Times) -> None:
    before = unknown_count()

    @time_it(label="task", cpu=True)
    def start() -> asyncio.Task[None]:
        return asyncio.create_task(asyncio.sleep(0))

    async def main() -> None:
        await start()

    asyncio.run(main())
    assert unknown_count() - before == 1
    assert times.both == ({"task": [0]}, {})
