"""The watchdog of an event loop, native and in Python: what it watches, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import uvloop

from aqltelemetry.stalls import watchdog
from aqltelemetry.stalls.loop_internals import queue_of, selector_of
from aqltelemetry.stalls.sampler import StallSampler
from loops import call_on_own_loop
from twinned import compiled_twin

_NewLoop = Callable[[], asyncio.AbstractEventLoop]
_LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
_STALL_S = 0.06
_LIMIT_S = 30.0


@pytest.fixture(params=["native", "python"])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    """Each kind of watchdog."""
    return compiled_twin("stalls._watchdog") if request.param == "native" else watchdog


@contextmanager
def _watching(twin: ModuleType) -> Iterator[list[tuple[str, float]]]:
    """Watch the running loop; yield what is recorded."""
    found: list[tuple[str, float]] = []
    sampler = StallSampler(0.02, twin=lambda _: twin)
    sampler.attach(lambda cause, length_s: found.append((cause, length_s)))
    try:
        yield found
    finally:
        sampler.detach()


async def _stall_until(found: list[tuple[str, float]]) -> None:
    """Block the event loop now and then until a stall has been recorded."""
    until_s = time.monotonic() + _LIMIT_S
    while not found and time.monotonic() < until_s:
        time.sleep(_STALL_S)
        await asyncio.sleep(_STALL_S)


@_LOOPS
def test_a_stall_is_recorded_by_each_kind_of_watchdog(new_loop: _NewLoop, twin: ModuleType) -> None:
    async def main() -> None:
        with _watching(twin) as found:
            await _stall_until(found)
        assert found
        assert all(0.02 <= length_s < _LIMIT_S for _, length_s in found)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@_LOOPS
def test_a_watchdog_that_is_stopped_during_a_stall_ends(
    new_loop: _NewLoop, twin: ModuleType
) -> None:
    async def main() -> None:
        with _watching(twin):
            await asyncio.sleep(_STALL_S)
            time.sleep(_STALL_S * 2)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    # The fixture `_nothing_left` waits for the thread of the probe.


@_LOOPS
def test_a_child_is_not_watched_and_the_parent_still_is(
    new_loop: _NewLoop, twin: ModuleType
) -> None:
    async def main() -> None:
        found: list[tuple[str, float]] = []
        sampler = StallSampler(0.02, twin=lambda _: twin)
        sampler.attach(lambda cause, length_s: found.append((cause, length_s)))
        await asyncio.sleep(_STALL_S)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                sampler.detach()
                del sampler
                status = 0 if gc.collect() >= 0 else 1
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        found.clear()
        await _stall_until(found)
        sampler.detach()
        assert found

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_the_event_loop_of_the_recordings_own_thread_is_not_watched() -> None:
    watched: list[int] = []

    def attach() -> None:
        sampler = StallSampler(0.05)
        sampler.attach(lambda _cause, _length_s: None)
        watched.append(len(sampler.watches))
        sampler.detach()

    call_on_own_loop(attach)
    assert watched == [0]


def test_a_loop_that_does_not_run_is_not_stalled(twin: ModuleType) -> None:
    found: list[tuple[str, float]] = []
    sampler = StallSampler(0.02, twin=lambda _: twin)
    loop = asyncio.new_event_loop()

    async def attach() -> None:
        sampler.attach(lambda cause, length_s: found.append((cause, length_s)))
        # The loop ends with a callback of the reader still to come.
        await asyncio.sleep(_STALL_S)

    async def detach() -> None:
        found.clear()
        sampler.detach()

    loop.run_until_complete(attach())
    time.sleep(_STALL_S * 3)
    long = [each for each in found if each[1] > _STALL_S * 2]
    loop.run_until_complete(detach())
    loop.close()
    assert long == []


@_LOOPS
def test_the_queue_and_the_selector_of_a_loop_are_found(new_loop: _NewLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue = queue_of(loop)
        assert queue is not None
        handle = loop.call_soon(int)
        assert queue[-1] is handle
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        assert selector_of(fd) == -1
        loop.add_reader(fd, int)
        await asyncio.sleep(0.01)
        assert selector_of(fd) > 0
        loop.remove_reader(fd)
        os.close(fd)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
