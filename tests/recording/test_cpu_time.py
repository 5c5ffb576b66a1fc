"""What a coroutine does while its steps are measured, and what is counted of it."""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

import pytest

from aqltelemetry.observation import CPU_TIME, MAX_LABEL_BYTES, Kind, Series
from aqltelemetry.recording import cpu_time
from aqltelemetry.recording.cpu_time import CpuSpan, StepMeter, append_cpu_time, unknown_count
from fakes import FakeClock


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Return the clock of the thread's CPU time."""
    fake = FakeClock()
    monkeypatch.setattr(cpu_time, "thread_cpu_ns", fake)
    return fake


async def test_only_the_steps_of_a_coroutine_count(cpu: FakeClock) -> None:
    async def work() -> str:
        cpu.now_ns += 1
        await asyncio.sleep(0)
        cpu.now_ns += 2
        return "done"

    meter = StepMeter(lead_ns=10)

    async def measured() -> str:
        return await meter.run(work())

    task = asyncio.create_task(measured())
    while not task.done():
        cpu.now_ns += 1_000
        await asyncio.sleep(0)
    assert await task == "done"
    assert meter.spent_ns() == 13


async def test_a_step_that_runs_counts_up_to_now(cpu: FakeClock) -> None:
    seen = []
    meter = StepMeter()

    async def work() -> None:
        for _ in range(2):
            cpu.now_ns += 5
            seen.append(meter.spent_ns())
            await asyncio.sleep(0)

    await meter.run(work())
    assert seen == [5, 10]


async def test_steps_within_steps_of_the_same_meter_count_once(cpu: FakeClock) -> None:
    meter, other = StepMeter(), StepMeter()

    async def inner() -> None:
        cpu.now_ns += 1
        await asyncio.sleep(0)
        cpu.now_ns += 2

    async def outer() -> None:
        await meter.run(inner())
        await other.run(meter.run(inner()))

    await meter.run(outer())
    assert (meter.spent_ns(), other.spent_ns()) == (6, 3)


def _driven(generator: Any) -> Generator[Any, Any, Any]:
    return StepMeter().run_steps(generator)


def test_what_is_sent_thrown_and_returned_passes_through() -> None:
    def echo() -> Generator[object, object, list[object]]:
        got: list[object] = []
        try:
            while len(got) < 2:
                got.append((yield len(got)))
        except KeyError:
            yield "caught"
        return got

    generator = _driven(echo())
    assert next(generator) == 0
    assert generator.send("a") == 1
    with pytest.raises(StopIteration) as end:
        generator.send("b")
    assert end.value.value == ["a", "b"]
    again = _driven(echo())
    next(again)
    assert again.throw(KeyError()) == "caught"


def test_a_closed_coroutine_runs_its_last_lines_measured(cpu: FakeClock) -> None:
    def work() -> Generator[None, None, None]:
        try:
            yield
        finally:
            cpu.now_ns += 7

    meter = StepMeter()
    generator = meter.run_steps(work())
    next(generator)
    generator.close()
    assert meter.spent_ns() == 7


def test_a_coroutine_that_ignores_its_end_is_reported_as_without_a_meter() -> None:
    def stubborn() -> Generator[None, None, None]:
        try:
            yield
        except GeneratorExit:
            yield

    generator = _driven(stubborn())
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()


async def test_an_exception_passes_through_with_one_more_frame() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError

    with pytest.raises(KeyError) as raised:
        await StepMeter().run(fail())
    frames = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert frames[-2:] == ["run_steps", "fail"]
    assert len(frames) == 3
    assert raised.value.__context__ is None


async def test_a_cancellation_reaches_the_coroutine_and_its_task_is_the_current_one() -> None:
    seen: list[object] = []

    async def work() -> None:
        seen.append(asyncio.current_task())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def measured() -> None:
        await StepMeter().run(work())

    task = asyncio.create_task(measured())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [task, "cancelled"]


async def test_any_awaitable_is_measured(cpu: FakeClock) -> None:
    class Awaitable:
        def __await__(self) -> Iterator[Any]:
            cpu.now_ns += 3
            yield from asyncio.sleep(0).__await__()

    meter = StepMeter()
    await meter.run(Awaitable())  # type: ignore[arg-type]
    assert meter.spent_ns() == 3
    measured = meter.run(asyncio.sleep(0))
    assert inspect.isawaitable(measured)
    await measured


async def test_an_item_of_an_asynchronous_generator_is_measured(cpu: FakeClock) -> None:
    async def items() -> AsyncGenerator[int, None]:
        cpu.now_ns += 2
        yield 1

    meter, generator = StepMeter(), items()
    assert await meter.run_steps(generator.asend(None)) == 1
    with pytest.raises(StopAsyncIteration):
        await meter.run_steps(generator.asend(None))
    assert meter.spent_ns() == 2


def test_a_span_of_a_thread_is_known_in_that_thread_only(cpu: FakeClock) -> None:
    found: list[int | None] = []
    span = CpuSpan()
    cpu.now_ns += 4
    thread = threading.Thread(target=lambda: found.append(span.spent_ns()))
    thread.start()
    thread.join()
    assert (span.spent_ns(), found) == (4, [None])


def test_a_span_in_a_greenlet_is_unknown(cpu: FakeClock) -> None:
    greenlet = pytest.importorskip("greenlet")
    assert greenlet.greenlet(lambda: CpuSpan().spent_ns()).switch() is None
    assert cpu.now_ns == 1_000


def test_a_span_in_a_task_of_trio_is_known_if_its_steps_are_measured(cpu: FakeClock) -> None:
    trio = pytest.importorskip("trio")

    async def look() -> int | None:
        span = CpuSpan()
        cpu.now_ns += 4
        await trio.lowlevel.checkpoint()
        return span.spent_ns()

    async def measured() -> int | None:
        return await StepMeter().run(look())

    assert trio.run(look) is None
    assert trio.run(measured) == 4


def test_a_span_in_a_coroutine_of_an_unknown_backend_is_unknown() -> None:
    async def look() -> int | None:
        return CpuSpan().spent_ns()

    with pytest.raises(StopIteration) as end:
        look().send(None)
    assert end.value.value is None


async def test_a_span_that_another_coroutine_ends_is_unknown() -> None:
    async def begin() -> CpuSpan:
        return CpuSpan()

    assert (await StepMeter().run(begin())).spent_ns() is None


async def test_one_mark_serves_all_spans_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, calls = asyncio.get_running_loop(), 0
    call_soon = loop.call_soon

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        return call_soon(*arguments, **keywords)

    monkeypatch.setattr(loop, "call_soon", counted)
    spans = [CpuSpan() for _ in range(5)]
    assert calls == 1
    assert None not in [span.spent_ns() for span in spans]
    await asyncio.sleep(0)
    assert {span.spent_ns() for span in spans} == {None}


def test_cpu_time_is_at_most_the_duration_and_counted_if_it_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(cpu_time, "append_duration", lambda *each: found.append(each))
    before = unknown_count()
    append_cpu_time("a", 100, 10, 12)
    append_cpu_time("a", 100, 10, 9)
    append_cpu_time("a", 100, 10, None)
    key = Series(CPU_TIME, "a", Kind.NANOSECONDS)
    assert found == [(key, 100, 10), (key, 100, 9)]
    assert unknown_count() - before == 1


def test_long_labels_and_those_that_are_no_texts_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []
    known: dict[str, Series] = {}
    monkeypatch.setattr(cpu_time, "append_duration", lambda *each: found.append(each[0].label))
    monkeypatch.setattr(cpu_time, "_keys", known)
    labels: list[Any] = ["x" * (MAX_LABEL_BYTES + 1), ["a list"], 5, "short"]
    for label in labels:
        append_cpu_time(label, 100, 10, 1)
    assert found == labels
    assert [*known] == ["short"]
