from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from types import coroutine
from typing import Any

import pytest

from aqltelemetry import time_block
from aqltelemetry.recording.timed_functions import time_it
from fakes import FakeClock

Rows = Callable[[], list[tuple[str, float]]]


def test_a_function_is_timed_under_its_qualified_name(clock: FakeClock, recorded: Rows) -> None:
    @time_it
    def work(amount: int) -> int:
        clock.now_ns += amount
        return 2 * amount

    assert work(21) == 42
    (row,) = recorded()
    assert row[0].endswith(
        "test_timed_functions.test_a_function_is_timed_under_its_qualified_name.<locals>.work"
    )
    assert row[1] == 21


@pytest.mark.parametrize("decorate", [time_it(), time_it(label=None), time_it])
def test_parentheses_may_be_left_out(
    recorded: Rows, decorate: Callable[[Callable[[], None]], Callable[[], None]]
) -> None:
    def work() -> None: ...

    decorate(work)()
    assert recorded()[0][0].endswith("<locals>.work")


def test_a_label_may_be_given(recorded: Rows) -> None:
    @time_it(label="version()")
    def version() -> None: ...

    version()
    assert recorded()[0][0] == "version()"


async def test_a_coroutine_is_timed_from_start_to_completion(
    clock: FakeClock, recorded: Rows
) -> None:
    @time_it(label="co")
    async def work() -> str:
        clock.now_ns += 1
        await asyncio.sleep(0)
        clock.now_ns += 2
        return "done"

    assert inspect.iscoroutinefunction(work)
    coroutine = work()
    clock.now_ns += 1_000  # made, not yet run
    assert recorded() == []
    assert await coroutine == "done"
    assert recorded() == [("co", 3)]


async def test_overlapping_runs_of_a_coroutine_are_timed_each_by_itself(
    clock: FakeClock, recorded: Rows
) -> None:
    gates = [asyncio.Event(), asyncio.Event()]

    @time_it(label="co")
    async def work(index: int) -> None:
        await gates[index].wait()

    tasks = []
    for index in range(2):
        tasks.append(asyncio.create_task(work(index)))
        await asyncio.sleep(0)
        clock.now_ns += 10
    for index in range(2):
        gates[index].set()
        await tasks[index]
        clock.now_ns += 100
    assert recorded() == [("co", 20), ("co", 110)]


def test_recursion_is_timed_at_each_level(clock: FakeClock, recorded: Rows) -> None:
    @time_it(label="recursion")
    def work(depth: int) -> None:
        clock.now_ns += 1
        if depth:
            work(depth - 1)

    work(2)
    assert [value for _, value in recorded()] == [1, 2, 3]


def test_a_generator_is_timed_from_its_first_item_to_its_end(
    clock: FakeClock, recorded: Rows
) -> None:
    @time_it(label="items")
    def items() -> Iterator[int]:
        for number in range(3):
            clock.now_ns += 1
            yield number

    assert inspect.isgeneratorfunction(items)
    generator = items()
    clock.now_ns += 1_000
    assert list(generator) == [0, 1, 2]
    assert recorded() == [("items", 3)]


def test_a_generator_takes_what_is_sent_and_thrown_and_returns_its_value() -> None:
    @time_it
    def echo() -> Generator[object, object, list[object]]:
        got: list[object] = []
        try:
            while len(got) < 2:
                got.append((yield len(got)))
        except KeyError:
            yield "caught"
        return got

    generator = echo()
    assert next(generator) == 0
    assert generator.send("a") == 1
    with pytest.raises(StopIteration) as end:
        generator.send("b")
    assert end.value.value == ["a", "b"]
    again = echo()
    next(again)
    assert again.throw(KeyError) == "caught"


def test_a_closed_generator_is_recorded(clock: FakeClock, recorded: Rows) -> None:
    @time_it(label="items")
    def items() -> Generator[int, None, None]:
        while True:
            yield 1

    generator = items()
    next(generator)
    clock.now_ns += 4
    generator.close()
    assert recorded() == [("items", 4)]


async def test_an_async_generator_is_timed_and_takes_what_is_sent_and_thrown(
    clock: FakeClock, recorded: Rows
) -> None:
    closed = []

    @time_it(label="stream")
    async def stream() -> AsyncGenerator[object, object]:
        try:
            sent = yield "first"
            clock.now_ns += 5
            try:
                yield sent
            except KeyError:
                yield "caught"
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    assert inspect.isasyncgenfunction(stream)
    generator = stream()
    assert await anext(generator) == "first"
    assert await generator.asend("hello") == "hello"
    assert await generator.athrow(KeyError) == "caught"
    with pytest.raises(StopAsyncIteration):
        await anext(generator)
    assert recorded() == [("stream", 5)]
    assert closed == [True]


async def test_an_async_generator_that_is_closed_closes_the_one_within(recorded: Rows) -> None:
    closed = []

    @time_it(label="stream")
    async def stream() -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    generator = stream()
    await anext(generator)
    await generator.aclose()
    assert closed == [True]
    assert len(recorded()) == 1


def test_what_a_function_raises_passes_through_and_is_recorded(recorded: Rows) -> None:
    @time_it(label="failing")
    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert [label for label, _ in recorded()] == ["failing", "failing failed"]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, SystemExit])
async def test_a_function_of_any_kind_counts_as_failed_if_a_failure_ends_it(
    clock: FakeClock, recorded: Rows, error: type[BaseException]
) -> None:
    def work(*, is_to_fail: bool = True) -> None:
        clock.now_ns += 7
        if is_to_fail:
            raise error

    @time_it("coroutine")
    async def run() -> None:
        await asyncio.sleep(0)
        work()

    @time_it("generator")
    def items() -> Iterator[int]:
        yield 1
        work()

    @time_it("async generator")
    async def async_items() -> AsyncGenerator[int, None]:
        yield 1
        work()

    time_it("sync")(work)(is_to_fail=False)
    with pytest.raises(error):
        time_it("sync")(work)()
    with pytest.raises(error):
        time_block("decorated")(work)()
    with pytest.raises(error):
        await run()
    with pytest.raises(error):
        list(items())
    with pytest.raises(error):
        _ = [item async for item in async_items()]
    labels = ["decorated", "coroutine", "generator", "async generator"]
    expected = [("sync", 7), *((label, 7) for label in ("sync", *labels))]
    if error is ZeroDivisionError:
        expected += [(f"{label} failed", 7) for label in ("sync", *labels)]
    assert sorted(recorded()) == sorted(expected)


async def test_an_iteration_that_is_closed_or_exhausted_is_no_failure(recorded: Rows) -> None:
    @time_it("items")
    def items() -> Iterator[int]:
        yield from (1, 2)

    @time_it("async items")
    async def async_items() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    @time_it("next")
    def following(iterator: Iterator[int]) -> int:
        return next(iterator)

    assert list(items()) == [1, 2]
    assert [item async for item in async_items()] == [1, 2]
    begun, async_begun = items(), async_items()
    assert (next(begun), await anext(async_begun)) == (1, 1)
    begun.close()  # type: ignore[attr-defined]
    await async_begun.aclose()
    with pytest.raises(StopIteration):
        following(iter(()))
    assert {label for label, _ in recorded()} == {"items", "async items", "next"}


def test_a_generator_that_what_is_thrown_ends_counts_as_failed(recorded: Rows) -> None:
    @time_it("items")
    def items() -> Generator[int, None, None]:
        yield 1

    begun = items()
    next(begun)
    with pytest.raises(KeyError):
        begun.throw(KeyError)
    assert [label for label, _ in recorded()] == ["items", "items failed"]


def test_methods_of_every_kind_are_timed(recorded: Rows) -> None:
    class Service:
        @time_it(label="method")
        def method(self) -> Service:
            return self

        @time_it(label="class")
        @classmethod
        def make(cls) -> type[Service]:
            return cls

        @staticmethod
        @time_it(label="static")
        def add(one: int, other: int) -> int:
            return one + other

        @time_it(label="outer static")
        @staticmethod
        def same() -> int:
            return 1

    service = Service()
    assert service.method() is service
    assert service.make() is Service
    assert service.add(1, 2) == 3
    assert service.same() == 1
    assert [label for label, _ in recorded()] == ["method", "class", "static", "outer static"]


def test_name_signature_and_docs_stay() -> None:
    def work(one: int, *, other: str = "x") -> bool:
        """Do it."""
        return bool(one) and bool(other)

    timed = time_it(work)
    assert inspect.signature(timed) == inspect.signature(work)
    assert (timed.__name__, timed.__doc__, timed.__module__) == ("work", "Do it.", __name__)


def test_partials_and_callable_objects_have_a_name(recorded: Rows) -> None:
    class Adder:
        def __call__(self, one: int) -> int:
            return one + 1

    assert time_it(functools.partial(int, "7"))() == 7
    assert time_it(Adder())(1) == 2
    first, second = (label for label, _ in recorded())
    assert first == "builtins.int"
    assert second.endswith("Adder")


@pytest.mark.parametrize("thing", [42, b"label", int, property(), functools.partialmethod(print)])
def test_what_is_no_function_is_refused(thing: Callable[[], None]) -> None:
    with pytest.raises(TypeError, match="must be a function"):
        time_it(thing)


@pytest.mark.parametrize("decorate", [time_it("x"), time_it(label="x"), time_block("x")])
async def test_a_label_and_a_block_decorate_functions_of_every_kind(
    clock: FakeClock, recorded: Rows, decorate: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    @decorate
    def plain() -> int:
        clock.now_ns += 1
        return 1

    @decorate
    async def waiting() -> int:
        await asyncio.sleep(0)
        clock.now_ns += 2
        return 2

    @decorate
    def items() -> Iterator[int]:
        yield 3
        clock.now_ns += 3

    @decorate
    async def stream() -> AsyncGenerator[int, None]:
        yield 4
        clock.now_ns += 4

    assert [plain(), await waiting(), *items()] == [1, 2, 3]
    assert [item async for item in stream()] == [4]
    assert recorded() == [("x", number) for number in (1, 2, 3, 4)]
    assert inspect.iscoroutinefunction(waiting)
    assert inspect.isgeneratorfunction(items)
    assert inspect.isasyncgenfunction(stream)


def test_a_block_that_decorates_is_a_block_all_the_same(clock: FakeClock, recorded: Rows) -> None:
    block = time_block("x")

    @block
    def work(depth: int) -> None:
        clock.now_ns += 1
        if depth:
            work(depth - 1)

    with block:
        work(1)
    assert recorded() == [("x", 1), ("x", 2), ("x", 2)]


def test_one_label_is_enough() -> None:
    with pytest.raises(TypeError, match="one label"):
        time_it("x", label="y")  # type: ignore[call-overload]


async def test_an_object_whose_call_is_a_coroutine_is_timed_to_its_end(
    clock: FakeClock, recorded: Rows
) -> None:
    class Handler:
        async def __call__(self, amount: int) -> int:
            await asyncio.sleep(0)
            clock.now_ns += amount
            return amount

    for function in (Handler(), functools.partial(Handler()), Handler().__call__):
        timed = time_it("x")(function)
        assert inspect.iscoroutinefunction(timed)
        assert await timed(5) == 5
    assert recorded() == [("x", 5)] * 3


async def test_objects_whose_call_makes_generators_are_timed_to_their_end(
    clock: FakeClock, recorded: Rows
) -> None:
    class Items:
        def __call__(self) -> Iterator[int]:
            yield 1
            clock.now_ns += 1

    class Stream:
        async def __call__(self) -> AsyncGenerator[int, None]:
            yield 2
            clock.now_ns += 2

    assert list(time_it("x")(Items())()) == [1]
    assert [item async for item in time_it("x")(Stream())()] == [2]
    assert recorded() == [("x", 1), ("x", 2)]


async def test_generators_that_are_awaitable_stay_so(clock: FakeClock, recorded: Rows) -> None:
    @time_it("x")
    @coroutine
    def waiting() -> Generator[None, None, int]:
        yield
        clock.now_ns += 3
        return 7

    assert await waiting() == 7
    assert recorded() == [("x", 3)]


async def test_a_function_that_is_marked_as_a_coroutine_function_stays_one(
    clock: FakeClock, recorded: Rows
) -> None:
    async def work() -> int:
        clock.now_ns += 4
        return 4

    def plain() -> Any:
        return work()

    if hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(plain)
    else:
        plain._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    timed = time_it("x")(plain)
    assert inspect.iscoroutinefunction(timed)
    assert await timed() == 4
    assert recorded() == [("x", 4)]
