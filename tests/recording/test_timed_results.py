"""What a plain function returns is timed to its end, and is to the caller what it was."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import sys
import warnings
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from types import coroutine
from typing import Any, Self
from unittest.mock import AsyncMock, MagicMock

import pytest

from aqltelemetry.recording import recorder, timed_results
from aqltelemetry.recording.timed_functions import time_it
from fakes import FakeClock

Rows = Callable[[], list[tuple[str, float]]]


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function as many libraries do: plainly."""

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return plain


async def _work(clock: FakeClock, amount: int = 5) -> int:
    clock.now_ns += 1
    await asyncio.sleep(0)
    clock.now_ns += amount - 1
    return amount


class Waiting:
    """Awaitable, and no coroutine."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.state = "new"

    def __await__(self) -> Generator[Any, None, int]:
        return _work(self.clock).__await__()

    def __len__(self) -> int:
        return 3


class Transaction:
    """An asynchronous context manager that contextlib did not make."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.left: list[object] = []

    async def __aenter__(self) -> Self:
        self.clock.now_ns += 1
        return self

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> bool:
        self.clock.now_ns += 2
        self.left.append(exc_type)
        return exc_type is KeyError


class Compiled(Coroutine[Any, Any, int]):
    """A coroutine that is not of Python's own type, as Cython makes them."""

    def __init__(self, clock: FakeClock) -> None:
        self.within = _work(clock)
        self.is_closed = False

    def send(self, value: Any) -> Any:
        return self.within.send(value)

    def throw(self, *error: Any) -> Any:
        return self.within.throw(*error)

    def close(self) -> None:
        self.is_closed = True
        self.within.close()

    def __await__(self) -> Generator[Any, Any, int]:
        return self.within.__await__()


async def test_a_coroutine_is_timed_while_it_runs(clock: FakeClock, recorded: Rows) -> None:
    @time_it("x")
    @_wrapped
    async def work() -> int:
        return await _work(clock)

    made = work()
    clock.now_ns += 1_000
    assert recorded() == []
    assert await made == 5
    assert recorded() == [("x", 5)]


async def test_what_a_function_does_before_it_returns_a_coroutine_counts(
    clock: FakeClock, recorded: Rows
) -> None:
    @time_it("x")
    def work() -> Awaitable[int]:
        clock.now_ns += 100
        return _work(clock)

    made = work()
    clock.now_ns += 1_000
    await made
    assert recorded() == [("x", 105)]


async def test_a_wrapped_coroutine_has_its_type_its_name_and_its_frame_of_traceback(
    clock: FakeClock,
) -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    made = time_it(lambda: failing())()  # noqa: PLW0108 - a plain function
    assert inspect.iscoroutine(made)
    assert asyncio.iscoroutine(made)
    assert (made.__name__, made.__qualname__) == (failing.__name__, failing.__qualname__)
    with pytest.raises(ZeroDivisionError) as caught:
        await asyncio.create_task(made)
    assert caught.traceback[-1].name == "failing"


async def test_what_ends_a_coroutine_early_passes_through_and_is_recorded(
    clock: FakeClock, recorded: Rows
) -> None:
    caught: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        except BaseException as exc:
            caught.append(type(exc).__name__)
            raise

    timed = time_it("x")(_wrapped(work))
    task = asyncio.create_task(timed())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    closed = timed()
    closed.send(None)
    closed.close()
    assert caught == ["CancelledError", "GeneratorExit"]
    assert len(recorded()) == 2


@pytest.mark.parametrize("end", ["drop", "close", "throw"])
def test_a_coroutine_that_was_never_awaited_is_warned_of_as_ever(
    recorded: Rows, clock: FakeClock, end: str
) -> None:
    def ended(made: Any) -> None:
        if end == "close":
            made.close()
        elif end == "throw":
            with pytest.raises(KeyError):
                made.throw(KeyError)
        del made
        gc.collect()

    found = []
    for make in (_work, time_it("x")(_wrapped(_work))):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ended(make(clock))
        found.append([str(each.message) for each in caught])
    assert found[0] == found[1]
    assert len(found[0]) == (end == "drop")
    assert recorded() == []


async def test_awaiting_twice_is_the_same_error(clock: FakeClock) -> None:
    made = time_it(_wrapped(_work))(clock)
    await made
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await made


async def test_a_task_is_returned_itself_and_timed_until_it_is_done(
    clock: FakeClock, recorded: Rows
) -> None:
    tasks: list[asyncio.Task[int]] = []

    @time_it("x")
    def start() -> asyncio.Task[int]:
        tasks.append(asyncio.create_task(_work(clock)))
        return tasks[-1]

    task = start()
    assert task is tasks[0]
    assert recorded() == []
    assert await task == 5
    await asyncio.sleep(0)
    assert recorded() == [("x", 5)]


@pytest.mark.parametrize("outcome", ["result", "exception", "cancel"])
async def test_futures_of_both_libraries_are_timed_however_they_end(
    clock: FakeClock, recorded: Rows, outcome: str
) -> None:
    futures = (asyncio.get_running_loop().create_future(), Future[int]())
    for future in futures:
        assert time_it("x")(lambda future=future: future)() is future
        clock.now_ns += 7
        if outcome == "result":
            future.set_result(1)
        elif outcome == "exception":
            future.set_exception(KeyError())
        else:
            future.cancel()
        await asyncio.sleep(0)
    assert sorted(recorded()) == [
        *[("x", 7)] * 2,
        *[("x failed", 7)] * 2 * (outcome == "exception"),
    ]
    for future in futures:
        assert future.cancelled() or future.exception() or future.result()


async def test_an_exception_that_nobody_retrieves_from_a_timed_task_is_still_logged(
    recorded: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    task = time_it("x")(asyncio.create_task)(failing())
    while not task.done():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [label for label, _ in recorded()] == ["x", "x failed"]
    del task
    gc.collect()
    assert "Task exception was never retrieved" in caplog.text


def test_a_future_of_an_executor_is_timed_until_its_work_is_done(
    clock: FakeClock, recorded: Rows
) -> None:
    def work() -> int:
        clock.now_ns += 9
        return 1

    with ThreadPoolExecutor(1) as executor:
        assert time_it("x")(executor.submit)(work).result() == 1
    assert recorded() == [("x", 9)]


async def test_a_future_that_is_done_already_took_as_long_as_the_call(
    clock: FakeClock, recorded: Rows
) -> None:
    done: Future[int] = Future()
    done.set_result(3)

    @time_it("x")
    def cached() -> Future[int]:
        clock.now_ns += 2
        return done

    assert cached() is done
    assert recorded() == [("x", 2)]


async def test_a_future_that_cannot_be_observed_took_as_long_as_the_call(
    clock: FakeClock, recorded: Rows
) -> None:
    class Odd:
        def add_done_callback(self, callback: object) -> None:
            raise RuntimeError("not from this thread")

    odd = Odd()
    assert time_it("x")(lambda: odd)() is odd
    assert recorded() == [("x", 0)]


def test_a_deferred_hands_its_outcome_on(clock: FakeClock, recorded: Rows) -> None:
    class Deferred:
        def __await__(self) -> Generator[Any, Any, Any]:
            yield

        def addBoth(self, callback: Callable[[object], object]) -> None:
            self.callback = callback

    class Failure:
        type = KeyError

    for outcome in ("outcome", Failure()):
        deferred = Deferred()
        assert time_it("x")(lambda deferred=deferred: deferred)() is deferred
        clock.now_ns += 3
        assert deferred.callback(outcome) is outcome
    assert recorded() == [("x", 3), ("x", 3), ("x failed", 3)]


def test_a_generator_is_timed_while_it_runs(clock: FakeClock, recorded: Rows) -> None:
    def items(number: int) -> Generator[int, int, str]:
        got = yield number
        clock.now_ns += got
        return "end"

    made = time_it("x")(_wrapped(items))(1)
    assert inspect.isgenerator(made)
    assert made.__name__ == "items"
    clock.now_ns += 1_000
    assert next(made) == 1
    with pytest.raises(StopIteration) as end:
        made.send(6)  # type: ignore[arg-type]
    assert end.value.value == "end"
    closed = time_it("x")(_wrapped(items))(1)
    next(closed)
    clock.now_ns += 2
    closed.close()
    time_it("x")(_wrapped(items))(1).close()  # never started
    assert recorded() == [("x", 6), ("x", 2)]


def test_a_generator_that_has_begun_is_left_alone(clock: FakeClock, recorded: Rows) -> None:
    started = iter(number for number in range(3))
    next(started)
    assert time_it("x")(lambda: started)() is started
    assert len(recorded()) == 1


async def test_an_awaitable_generator_is_timed_and_stays_awaitable(
    clock: FakeClock, recorded: Rows
) -> None:
    @coroutine
    def waiting() -> Generator[None, None, int]:
        yield
        clock.now_ns += 4
        return 4

    made = time_it("x")(_wrapped(waiting))()
    assert inspect.isawaitable(made)
    assert await made == 4
    assert recorded() == [("x", 4)]


async def test_an_async_generator_is_timed_while_it_runs(clock: FakeClock, recorded: Rows) -> None:
    closed = []

    async def stream() -> AsyncGenerator[int, None]:
        try:
            yield 1
            clock.now_ns += 3
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    make = time_it("x")(_wrapped(stream))
    assert inspect.isasyncgen(make())
    assert [item async for item in make()] == [1, 2]
    early = make()
    assert await anext(early) == 1
    clock.now_ns += 2
    await early.aclose()
    assert closed == [True, True]
    assert recorded() == [("x", 3), ("x", 2)]


async def test_context_managers_of_contextlib_are_timed_from_entry_to_exit(
    clock: FakeClock, recorded: Rows
) -> None:
    @time_it("async")
    @asynccontextmanager
    async def transaction() -> AsyncIterator[str]:
        clock.now_ns += 1
        try:
            yield "open"
        except KeyError:
            clock.now_ns += 10
        clock.now_ns += 1

    @time_it("sync")
    @contextmanager
    def opened() -> Iterator[str]:
        yield "open"

    for fault in (None, KeyError()):
        entered = transaction()
        clock.now_ns += 1_000
        async with entered as state:
            assert state == "open"
            clock.now_ns += 5
            if fault:
                raise fault
    with opened() as state, pytest.raises(ZeroDivisionError):
        clock.now_ns += 3
        with opened():
            raise ZeroDivisionError
    assert sorted(recorded()) == [
        *(("async", 7), ("async", 17), ("sync", 0), ("sync", 3), ("sync failed", 0))
    ]


async def test_context_managers_of_contextlib_decorate_as_before(
    clock: FakeClock, recorded: Rows
) -> None:
    @time_it("x")
    @asynccontextmanager
    async def transaction(amount: int) -> AsyncIterator[None]:
        clock.now_ns += amount
        yield

    @transaction(4)
    async def work() -> int:
        return 7

    assert [await work(), await work()] == [7, 7]
    assert recorded() == [("x", 4), ("x", 4)]


async def test_an_awaitable_object_is_timed_each_time_it_is_awaited(
    clock: FakeClock, recorded: Rows
) -> None:
    made = time_it("x")(lambda: Waiting(clock))()
    clock.now_ns += 1_000
    assert await made == 5
    assert await asyncio.ensure_future(made) == 5
    assert await asyncio.wait_for(made, 10) == 5
    assert recorded() == [("x", 5)] * 3


async def test_a_coroutine_of_another_type_is_timed_as_a_task_too(
    clock: FakeClock, recorded: Rows
) -> None:
    made = time_it("x")(lambda: Compiled(clock))()
    assert asyncio.iscoroutine(made)
    assert await asyncio.create_task(made) == 5
    assert await time_it("x")(lambda: Compiled(clock))() == 5
    assert recorded() == [("x", 5), ("x", 5)]


@pytest.mark.parametrize("started", [False, True])
def test_a_coroutine_of_another_type_is_closed_without_a_warning(
    clock: FakeClock, recorded: Rows, started: bool
) -> None:
    within = Compiled(clock)
    made = time_it("x")(lambda: within)()
    if started:
        made.send(None)
    made.close()
    assert within.is_closed
    assert len(recorded()) == started


async def test_an_async_context_manager_object_is_timed_from_entry_to_exit(
    clock: FakeClock, recorded: Rows
) -> None:
    begin = time_it("x")(lambda: Transaction(clock))
    made = begin()
    clock.now_ns += 1_000
    async with made as transaction:
        assert type(transaction) is Transaction
        clock.now_ns += 5
    async with begin(), AsyncExitStack() as stack:
        await stack.enter_async_context(begin())
        raise KeyError
    assert recorded() == [("x", 8), ("x", 3), ("x", 6)]
    assert transaction.left == [None]


async def test_an_entry_that_fails_is_recorded(clock: FakeClock, recorded: Rows) -> None:
    class Refusing(Transaction):
        async def __aenter__(self) -> Self:
            self.clock.now_ns += 6
            raise ConnectionError

    with pytest.raises(ConnectionError):
        async with time_it("x")(lambda: Refusing(clock))():
            pass
    assert recorded() == [("x", 6), ("x failed", 6)]


async def test_an_async_context_manager_object_fails_by_what_it_lets_through(
    clock: FakeClock, recorded: Rows
) -> None:
    class Managed:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *exc_info: object) -> bool:
            if self.name == "replaces":
                raise OSError
            return self.name == "suppresses"

    for name in ("suppresses", "replaces", "lets through"):
        with suppress(KeyError, OSError):
            async with time_it(name)(lambda name=name: Managed(name))():
                raise KeyError
    with suppress(OSError):
        async with time_it("replaces")(lambda: Managed("replaces"))():
            raise asyncio.CancelledError
    assert Counter(label for label, _ in recorded()) == {
        "suppresses": 1,
        "replaces": 2,
        "replaces failed": 2,
        "lets through": 1,
        "lets through failed": 1,
    }


@pytest.mark.parametrize("error", [KeyError, asyncio.CancelledError])
async def test_an_awaitable_object_counts_as_failed_if_a_failure_ends_it(
    clock: FakeClock, recorded: Rows, error: type[BaseException]
) -> None:
    class Failing:
        def __await__(self) -> Generator[Any, Any, None]:
            yield
            raise error

    async def coroutine() -> None:
        raise error

    for make in (Failing, coroutine):
        with pytest.raises(error):
            await time_it("x")(lambda make=make: make())()
    failed = [("x failed", 0)] * 2 * (error is KeyError)
    assert sorted(recorded()) == [*[("x", 0)] * 2, *failed]


def test_an_object_that_is_not_entered_took_as_long_as_the_call(
    clock: FakeClock, recorded: Rows
) -> None:
    @time_it("x")
    def client() -> Transaction:
        clock.now_ns += 3
        return Transaction(clock)

    made = client()
    assert made.left == []
    del made
    gc.collect()
    assert recorded() == [("x", 3)]


def test_a_stand_in_does_what_its_object_does(clock: FakeClock) -> None:
    thing = Waiting(clock)
    made: Any = time_it(lambda: thing)()
    assert isinstance(time_it(lambda: thing)(), Waiting)
    assert inspect.isawaitable(time_it(lambda: thing)())
    assert (len(made), made.state, bool(made)) == (3, "new", True)
    made.state = made.other = "changed"
    assert (thing.state, vars(made)) == ("changed", vars(thing))
    del made.other
    assert (made == thing, hash(made), repr(made)) == (True, hash(thing), repr(thing))
    assert made == time_it(lambda: thing)()
    assert {thing: 1}[made] == 1
    assert dir(made) == dir(thing)
    with pytest.raises(AttributeError, match="'Waiting' object has no attribute 'nothing'"):
        _ = made.nothing
    assert type(copy.copy(made)) is Waiting


def test_a_stand_in_is_pickled_as_its_object() -> None:
    made = time_it(lambda: Picklable())()  # noqa: PLW0108 - a plain function
    assert type(pickle.loads(pickle.dumps(made))) is Picklable


class Picklable:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


@pytest.mark.parametrize("make", [MagicMock, AsyncMock])
def test_a_mock_is_returned_itself(make: Callable[[], Any]) -> None:
    mock = make()
    assert time_it(lambda: mock)() is mock


class _Meta(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise ZeroDivisionError

    def __getattr__(cls, name: str) -> object:
        raise ZeroDivisionError


class Hostile(metaclass=_Meta):
    """Raises wherever its type is asked for something."""


@pytest.mark.parametrize("result", [None, 1, "x", b"", [], object(), Hostile(), Hostile, range(3)])
def test_what_is_finished_is_returned_itself(result: object, recorded: Rows) -> None:
    for _ in range(2):
        assert time_it("x")(lambda: result)() is result
    assert [label for label, _ in recorded()] == ["x", "x"]


def test_types_of_results_are_remembered_up_to_a_limit() -> None:
    before = dict(timed_results.PLAIN_TYPES)
    for number in range(1_000):
        time_it(lambda number=number: type(f"Result{number}", (), {})())()
    assert len(timed_results.PLAIN_TYPES) <= 256
    timed_results.PLAIN_TYPES.clear()
    timed_results.PLAIN_TYPES.update(before)


@pytest.mark.parametrize(
    "make",
    [_work, Waiting, Compiled, lambda clock: asyncio.ensure_future(_work(clock))],
    ids=["coroutine", "awaitable", "compiled", "task"],
)
async def test_while_recording_is_off_all_of_it_works_and_nothing_is_recorded(
    clock: FakeClock, make: Callable[[FakeClock], Awaitable[int]]
) -> None:
    assert not recorder.is_on()
    assert await time_it("x")(_wrapped(make))(clock) == 5


def test_a_fault_in_aqltelemetry_returns_the_result_as_it_is(
    clock: FakeClock, recorded: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_results, "proxied", None)
    waiting = Waiting(clock)
    assert time_it("x")(lambda: waiting)() is waiting


def test_no_reference_to_a_result_is_kept(clock: FakeClock, recorded: Rows) -> None:
    waiting = Waiting(clock)
    count = sys.getrefcount(waiting)
    made = time_it("x")(lambda: waiting)()
    del made
    gc.collect()
    assert sys.getrefcount(waiting) == count
