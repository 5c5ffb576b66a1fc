"""What type checkers must see of the public names; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from typing import assert_type

import pandas as pd
from aiohttp import web

from aqltelemetry import Monitor, TelemetryDB, monitor, record, time_block, time_it
from aqltelemetry.aiohttp import setup
from aqltelemetry.observation import Batch, Measurement, SegmentId
from aqltelemetry.protocols import Sampler, Sink
from aqltelemetry.recording.stats import Stats


@time_it
def plain(a: int, *, b: str = "") -> float:
    return a + len(b)


@time_it()
def called(a: int) -> str:
    return str(a)


@time_it(label="coroutine")
async def coroutine(a: int) -> bytes:
    return bytes(a)


@time_it
def generator(a: int) -> Iterator[int]:
    yield a


@time_it
async def async_generator(a: int) -> AsyncIterator[int]:
    yield a


class Service:
    @time_it(label="method")
    def method(self, a: int) -> list[int]:
        return [a]

    @classmethod
    @time_it
    def of(cls, a: int) -> Service:
        return cls()


class Queue:
    prefix = "queue"
    interval_s = 5.0

    async def sample(self) -> Sequence[Measurement]:
        return [Measurement("length", 3)]


class Printer:
    async def write(self, batch: Batch) -> Sequence[SegmentId]:
        return [batch.segment]

    async def flush(self) -> Sequence[SegmentId]:
        return []

    async def close(self) -> None: ...


async def check() -> None:
    assert_type(plain(1, b="x"), float)
    assert_type(called(1), str)
    assert_type(await coroutine(1), bytes)
    assert_type(generator(1), Iterator[int])
    assert_type(async_generator(1), AsyncIterator[int])
    assert_type(Service().method(1), list[int])
    assert_type(Service.of(1), Service)
    plain("1")  # type: ignore[arg-type]
    await coroutine()  # type: ignore[call-arg]
    time_it(label=7)  # type: ignore[call-overload]

    sync_block: AbstractContextManager[None, None] = time_block("x")
    async_block: AbstractAsyncContextManager[None, None] = time_block("x")
    with sync_block:
        pass
    async with async_block:
        pass
    assert_type(record("x", 1.0), None)
    assert_type(record("x", 1, prefix="queue"), None)
    record("x", "1")  # type: ignore[arg-type]

    sampler: Sampler = Queue()
    sink: Sink = Printer()
    await monitor.start("_monitoring", interval_s=1, samplers=[sampler], sinks=(sink,))
    await monitor.start(intervall_s=1)  # type: ignore[call-arg]
    assert_type(await monitor.stop(), Stats)
    async with Monitor("_monitoring", with_profiler=True) as running:
        assert_type(running.stats().recorded, int)
    setup(web.Application(), "_monitoring", keep_bytes=1 << 30)
    setup(web.Application(), keep_bytes="2g", keep_s=timedelta(days=7), with_fsync="yes")
    setup(web.Application(), keep_bytes=timedelta(1))  # type: ignore[arg-type]

    assert_type(TelemetryDB("x").duration().time_series("y").data(by_pid=7), "pd.Series[float]")
    assert_type(TelemetryDB("x").duration().data(), pd.DataFrame)
    function: Callable[[int], Awaitable[bytes]] = coroutine
    del function
