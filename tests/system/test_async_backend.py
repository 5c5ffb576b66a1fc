"""Each asynchronous backend is recognised, and its tasks are kept apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from types import coroutine
from typing import Any

import gevent  # type: ignore[import-untyped]
import greenlet  # type: ignore[import-untyped]
import pytest
import trio

from aqltelemetry.recording.reentrancy import OverlappingEntries
from aqltelemetry.system.async_backend import asyncio_task, current_task, is_cancellation, trio_task

Work = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Sequence[Work]], None]


@coroutine
def _turn() -> Generator[None, None, None]:
    yield


def run_unknown(works: Sequence[Work]) -> None:
    """Run coroutines by turns, as a backend does that is none of the known ones."""
    waiting = [work() for work in works]
    while waiting:
        task = waiting.pop(0)
        try:
            task.send(None)
        except StopIteration:
            continue
        waiting.append(task)


def _run_asyncio(works: Sequence[Work]) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work())

    asyncio.run(main())


def _run_trio(works: Sequence[Work]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)

    trio.run(main, strict_exception_groups=True)


def _run_trio_as_a_guest(works: Sequence[Work]) -> None:
    """Run trio in the event loop of asyncio, whose callbacks are trio's turns."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        (await done).unwrap()

    asyncio.run(host())


BACKENDS: dict[str, tuple[Run, Callable[[], Awaitable[object]]]] = {
    "asyncio": (_run_asyncio, lambda: asyncio.sleep(0)),
    "trio": (_run_trio, trio.lowlevel.checkpoint),
    "trio as a guest": (_run_trio_as_a_guest, trio.lowlevel.checkpoint),
    "unknown": (run_unknown, _turn),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_task_keeps_one_identity(backend: str) -> None:
    run, turn = BACKENDS[backend]
    seen: list[set[object]] = []

    async def look() -> object:
        return current_task()

    def helper() -> object:
        return current_task()

    async def work() -> None:
        mine: set[object] = set()
        seen.append(mine)
        for _ in range(3):
            mine |= {current_task(), await look(), helper(), *(current_task() for _ in "x")}
            await turn()

    run([work] * 3)
    assert [len(mine) for mine in seen] == [1, 1, 1]
    assert len(set.union(*seen)) == 3
    assert None not in set.union(*seen)


def test_outside_of_tasks_there_is_none() -> None:
    assert (current_task(), asyncio_task(), trio_task()) == (None, None, None)
    assert [current_task() for _ in "x"] == [None]
    assert next(current_task() for _ in "x") is None


def test_a_callback_of_an_event_loop_is_no_task() -> None:
    seen: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: seen.append(asyncio_task()))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == [None]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_entries_of_one_block_by_several_tasks_are_kept_apart(
    backend: str, order: tuple[int, ...]
) -> None:
    """In whichever order they leave; each has entered twice."""
    run, turn = BACKENDS[backend]
    entries: OverlappingEntries[int] = OverlappingEntries()
    left: dict[int, list[int | None]] = {}

    def work_as(number: int) -> Work:
        async def work() -> None:
            entries.enter(number)
            entries.enter(10 + number)
            while len(left) != order.index(number):
                await turn()
            left[number] = [entries.leave(), entries.leave(), entries.leave()]

        return work

    run([work_as(number) for number in range(3)])
    assert left == {number: [10 + number, number, None] for number in order}


@pytest.mark.parametrize("kind", ["greenlet", "gevent"])
def test_entries_of_one_block_by_several_greenlets_are_kept_apart(kind: str) -> None:
    """Nothing is patched here: all of them run on one thread by its number."""
    entries: OverlappingEntries[int] = OverlappingEntries()
    left: list[int | None] = []

    def work(number: int) -> None:
        entries.enter(number)
        gevent.sleep(0) if kind == "gevent" else main.switch()
        left.append(entries.leave())

    if kind == "gevent":
        gevent.joinall([gevent.spawn(work, number) for number in range(3)], raise_error=True)
    else:
        main = greenlet.getcurrent()
        greenlets = [greenlet.greenlet(work) for _ in range(3)]
        for number, each in enumerate(greenlets):
            each.switch(number)
        for each in greenlets:
            each.switch()
    assert left == [0, 1, 2]


def _trio_cancelled() -> BaseException:
    caught: list[BaseException] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                caught.append(exc)
                raise

    trio.run(main)
    return caught[0]


def test_cancellations_are_known_on_each_backend() -> None:
    asyncios, trios = asyncio.CancelledError(), _trio_cancelled()
    for cancellation in (asyncios, trios, BaseExceptionGroup("both", [asyncios, trios])):
        assert is_cancellation(cancellation)
    for other in (
        ValueError(),
        KeyboardInterrupt(),
        BaseExceptionGroup("x", [trios, ValueError()]),
    ):
        assert not is_cancellation(other)
