from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator

import pytest

from aqltelemetry.samplers import event_loop
from aqltelemetry.samplers.event_loop import EventLoopSampler, count_tasks
from aqltelemetry.system.clock import monotonic_ns
from fakes import FakeClock

_S = 1_000_000_000


class Timers:
    """Replaces `call_later` of the loop: stores callbacks instead of waiting."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.due: list[tuple[int, Callable[[], None]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        at_ns = self._clock.now_ns + round(delay_s * _S)
        self.due.append((at_ns, callback))
        return asyncio.get_running_loop().call_later(3600, callback)

    def run(self, late_ns: int) -> None:
        """Call the next callback, `late_ns` after its time."""
        at_ns, callback = self.due.pop(0)
        self._clock.now_ns = at_ns + late_ns
        callback()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock(5 * _S)
    monkeypatch.setattr(event_loop, "monotonic_ns", clock)
    return clock


@pytest.fixture
def sampler() -> Iterator[EventLoopSampler]:
    sampler = EventLoopSampler()
    yield sampler
    sampler.detach()


async def _lags(sampler: EventLoopSampler, clock: FakeClock, late_ns: list[int]) -> list[float]:
    seen: list[float] = []
    timers = Timers(clock)
    sampler._loop = asyncio.get_running_loop()
    sampler.attach(lambda label, value: seen.append(value))
    timer = sampler._timer
    assert timer is not None
    timer.cancel()
    sampler._loop = timers  # type: ignore[assignment]
    timers.due.append((sampler._due_ns, sampler._tick))
    for each in late_ns:
        timers.run(each)
        if sampler._timer is not None:
            sampler._timer.cancel()
    return seen


async def test_a_punctual_tick_is_a_lag_of_zero(
    sampler: EventLoopSampler, clock: FakeClock
) -> None:
    assert await _lags(sampler, clock, [0, 0, 0]) == [0.0, 0.0, 0.0]


async def test_a_late_tick_is_one_observation_of_its_full_lateness(
    sampler: EventLoopSampler, clock: FakeClock
) -> None:
    assert await _lags(sampler, clock, [0, 350_000_000, 0]) == [0.0, 0.35, 0.0]


async def test_lateness_does_not_shift_the_grid_of_times(
    sampler: EventLoopSampler, clock: FakeClock
) -> None:
    started_ns = clock.now_ns
    await _lags(sampler, clock, [3_000_000] * 20 + [250_000_000] + [3_000_000] * 20)
    assert (sampler._due_ns - started_ns) % (_S // 10) == 0


async def test_an_early_tick_is_a_lag_of_zero(sampler: EventLoopSampler, clock: FakeClock) -> None:
    assert await _lags(sampler, clock, [-1000]) == [0.0]


async def test_a_blocked_event_loop_is_measured(sampler: EventLoopSampler) -> None:
    """A handler that computes for 0.2 s causes a lag of at least 0.1 s on a real loop."""
    seen: list[float] = []
    sampler.attach(lambda label, value: seen.append(value))
    started_ns = monotonic_ns()
    while monotonic_ns() - started_ns < 200_000_000:
        pass
    async with asyncio.timeout(30):
        while not seen:
            await asyncio.sleep(0.01)
    assert seen[0] >= 0.09


async def test_a_detached_sampler_stops_ticking(
    sampler: EventLoopSampler, clock: FakeClock
) -> None:
    seen: list[float] = []
    sampler.attach(lambda label, value: seen.append(value))
    tick = sampler._tick
    sampler.detach()
    sampler.detach()
    tick()
    assert seen == []
    assert sampler._timer is None


async def test_tasks_are_counted(sampler: EventLoopSampler) -> None:
    gc.collect()  # what earlier tests left behind counts until it is collected
    before = count_tasks()
    tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(50)]
    ((label, value),) = await sampler.sample()
    assert (label, value) == ("tasks", before + 50)
    await asyncio.gather(*tasks)


def test_tasks_are_counted_without_a_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_all_tasks", "_scheduled_tasks"):
        monkeypatch.delattr(asyncio.tasks, name, raising=False)
    monkeypatch.setattr(asyncio, "all_tasks", lambda: {1, 2, 3})
    assert count_tasks() == 3
