"""The blocks that a task has open are known while they are followed."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from aqltelemetry.recording.recorder import follow_blocks, open_blocks, time_block
from twinned import recorded


@pytest.fixture(autouse=True)
def _followed() -> Iterator[None]:
    with recorded():
        follow_blocks(True)
        try:
            yield
        finally:
            follow_blocks(False)


def _of_task() -> Sequence[str]:
    """Return the open blocks of the running task, or those outside of tasks."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return open_blocks(threading.get_ident(), 0 if task is None else id(task))


def test_open_blocks_are_named_from_the_outermost_on() -> None:
    with time_block("outer"), time_block("inner"):
        assert _of_task() == ["outer", "inner"]
    assert _of_task() == []


def test_a_block_that_an_exception_ends_is_not_open() -> None:
    with pytest.raises(ValueError), time_block("fails"):  # noqa: PT011 - raised here
        raise ValueError
    assert _of_task() == []


def test_a_task_has_its_own_blocks_only() -> None:
    seen: dict[str, Sequence[str]] = {}

    async def handle(name: str, entered: asyncio.Event, other: asyncio.Event) -> None:
        async with time_block(name):
            entered.set()
            await other.wait()
            seen[name] = _of_task()

    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        # Both tasks have the same context, so that it does not distinguish them.
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        with time_block("main"):
            await asyncio.gather(
                loop.create_task(handle("a", first, second), context=context),
                loop.create_task(handle("b", second, first), context=context),
            )
            seen["main"] = _of_task()

    asyncio.run(main())
    assert seen == {"a": ["a"], "b": ["b"], "main": ["main"]}


def test_a_callback_has_the_blocks_that_it_opened() -> None:
    seen: list[Sequence[str]] = []

    def callback() -> None:
        with time_block("callback"):
            seen.append(_of_task())

    async def main() -> None:
        with time_block("task"):
            asyncio.get_running_loop().call_soon(callback)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == [["callback"]]


def test_a_thread_has_its_own_blocks_only() -> None:
    seen: list[Sequence[str]] = []

    def run() -> None:
        with time_block("other"):
            seen.append(open_blocks(threading.get_ident(), None))

    with time_block("this"):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        seen.append(open_blocks(threading.get_ident(), None))
    assert seen == [["other"], ["this"]]


def test_a_block_in_an_exit_stack_is_open_until_the_stack_is_closed() -> None:
    with ExitStack() as stack:
        stack.enter_context(time_block("stacked"))
        assert _of_task() == ["stacked"]
    assert _of_task() == []


def test_an_object_that_is_entered_again_is_not_named() -> None:
    block = time_block("again")
    with block, block:
        assert _of_task() == []
    with time_block("next"):
        assert _of_task() == ["next"]


def test_blocks_that_are_not_followed_are_not_named() -> None:
    with time_block("before"):
        follow_blocks(False)
        assert _of_task() == []
        with time_block("unfollowed"):
            follow_blocks(True)
            assert _of_task() == []


def test_a_block_that_is_never_left_does_no_harm() -> None:
    for _ in range(3):
        time_block("left open").__enter__()
    assert _of_task() == ["left open"] * 3
    follow_blocks(False)
    assert _of_task() == []
