from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from aqltelemetry.journal.labels import SeriesKey
from aqltelemetry.runtime.schedule import Schedule
from fakes import FakeSampler


class Appended:
    """Collects what a schedule records."""

    def __init__(self) -> None:
        self.rows: list[tuple[SeriesKey, float]] = []

    def __call__(self, key: SeriesKey, value: float) -> None:
        self.rows.append((key, value))


class Sleeper:
    """Replaces `asyncio.sleep`: advances the loop's time instead, late by `late_s`."""

    def __init__(self, late_s: list[float], cost_s: float = 0.0) -> None:
        self.now_s = 1000.0
        self.woken_s: list[float] = []
        self.cost_s = cost_s
        self._late_s = late_s

    async def sleep(self, delay_s: float) -> None:
        if not self._late_s:
            raise asyncio.CancelledError
        self.now_s += max(delay_s, 0.0) + self._late_s.pop(0)
        self.woken_s.append(self.now_s)

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Schedule, Sleeper], Awaitable[None]]:
    async def run(schedule: Schedule, sleeper: Sleeper) -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", sleeper.time, raising=False)
        monkeypatch.setattr(asyncio, "sleep", sleeper.sleep)
        with pytest.raises(asyncio.CancelledError):
            await schedule.run()
        monkeypatch.undo()

    return run


Run = Callable[[Schedule, Sleeper], Awaitable[None]]


async def test_a_sample_is_recorded_under_the_samplers_prefix() -> None:
    appended = Appended()
    await Schedule(FakeSampler(), 1.0, appended).sample()
    assert appended.rows == [(("fake", "number"), 1)]


async def test_samples_do_not_drift(run: Run) -> None:
    sleeper = Sleeper([0.01] * 100)
    schedule = Schedule(FakeSampler(), 1.0, Appended())
    await run(schedule, sleeper)
    assert sleeper.woken_s == pytest.approx([1001.01 + number for number in range(100)])
    assert schedule.missed == 0


async def test_missed_ticks_are_counted_and_skipped(run: Run) -> None:
    sampler = FakeSampler()
    sleeper = Sleeper([0.0, 3.5, 0.0])
    schedule = Schedule(sampler, 1.0, Appended())
    await run(schedule, sleeper)
    assert sleeper.woken_s == [1001.0, 1005.5, 1006.0]
    assert schedule.missed == 3
    assert sampler.samples == 3


async def test_a_sampler_that_raises_stays_on_schedule_and_is_logged_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    sampler = FakeSampler()
    sampler.failures = [OSError("gone"), OSError("gone"), ValueError("odd")]
    appended = Appended()
    schedule = Schedule(sampler, 1.0, appended)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        await run(schedule, Sleeper([0.0] * 5))
    assert schedule.errors == 3
    assert len(caplog.records) == 2
    assert [value for _, value in appended.rows] == [1, 2]


async def test_a_wrong_result_of_a_sampler_is_counted_as_an_error() -> None:
    class Nonsense(FakeSampler):
        async def sample(self) -> int:  # type: ignore[override]
            return 7

    schedule = Schedule(Nonsense(), 1.0, Appended())  # type: ignore[arg-type]
    await schedule.sample()
    assert schedule.errors == 1
