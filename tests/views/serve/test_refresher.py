from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from typing import cast

import pytest

from aqltelemetry.errors import MonitoringDirectoryError
from aqltelemetry.views.serve.events import Subscribers, event
from aqltelemetry.views.serve.recording import Recording, State
from aqltelemetry.views.serve.refresher import refresh_while_looked_at


class _Recording:
    """A recording that changes at each refresh; `fails` is raised instead."""

    def __init__(self) -> None:
        self.refreshes = 0
        self.fails: Exception | None = None
        self.refreshed = asyncio.Event()

    def state(self) -> Future[State]:
        self.refreshes += 1
        future: Future[State] = Future()
        if self.fails is None:
            future.set_result(State(10 * self.refreshes, self.refreshes, 0))
        else:
            future.set_exception(self.fails)
        self.refreshed.set()
        return future


class _Sleeps(list[float]):
    """Takes the place of `asyncio.sleep`, and keeps how long was slept."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        await _SLEEP(0)


_SLEEP = asyncio.sleep


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> _Sleeps:
    sleeps = _Sleeps()
    monkeypatch.setattr("aqltelemetry.views.serve.refresher.asyncio.sleep", sleeps)
    return sleeps


async def _until_refreshed(fake: _Recording, subscribers: Subscribers) -> None:
    """Run until there was a refresh, and a pause after it."""
    task = asyncio.create_task(
        refresh_while_looked_at(cast("Recording", fake), subscribers, interval_s=0.7)
    )
    async with asyncio.timeout(10):
        await fake.refreshed.wait()
        for _ in range(5):
            await _SLEEP(0)
    task.cancel()
    await asyncio.wait([task])


async def test_nothing_is_read_until_somebody_looks(sleeps: _Sleeps) -> None:
    fake, subscribers = _Recording(), Subscribers()
    task = asyncio.create_task(refresh_while_looked_at(cast("Recording", fake), subscribers))
    for _ in range(10):
        await _SLEEP(0)
    assert fake.refreshes == 0
    with subscribers.subscribed():
        async with asyncio.timeout(10):
            await fake.refreshed.wait()
    read = fake.refreshes
    for _ in range(10):
        await _SLEEP(0)
    assert read <= fake.refreshes <= read + 1
    task.cancel()
    await asyncio.wait([task])


async def test_a_browser_is_notified_of_each_refresh(sleeps: _Sleeps) -> None:
    fake, subscribers = _Recording(), Subscribers()
    with subscribers.subscribed():
        messages = subscribers.messages()
        await _until_refreshed(fake, subscribers)
        number = fake.refreshes
        data = {"observations": 10 * number, "strips": number, "report": 0}
        assert await anext(messages) == event("changed", number, data)
        await messages.aclose()


async def test_there_is_a_pause_after_each_refresh(sleeps: _Sleeps) -> None:
    fake, subscribers = _Recording(), Subscribers()
    with subscribers.subscribed():
        await _until_refreshed(fake, subscribers)
    assert fake.refreshes - 1 <= len(sleeps) <= fake.refreshes
    assert set(sleeps) == {0.7}


async def test_a_directory_that_is_gone_is_reported_once_and_tried_again(
    sleeps: _Sleeps, caplog: pytest.LogCaptureFixture
) -> None:
    fake, subscribers = _Recording(), Subscribers()
    fake.fails = MonitoringDirectoryError("gone", "must exist")
    with subscribers.subscribed(), caplog.at_level(logging.WARNING):
        await _until_refreshed(fake, subscribers)
        assert fake.refreshes > 1
        messages = subscribers.messages()
        text = "monitoring directory 'gone': must exist"
        assert await anext(messages) == event("changed", -1, {"error": text})
        fake.fails = None
        fake.refreshed.clear()
        await _until_refreshed(fake, subscribers)
        assert b"observations" in await anext(messages)
        await messages.aclose()
    assert [record.message for record in caplog.records] == [f"the recording can't be read: {text}"]
