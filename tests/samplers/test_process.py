from __future__ import annotations

import asyncio
import mmap
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from aqltelemetry.samplers.process import ProcessSampler, open_process


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def _sampler(executor: Executor) -> ProcessSampler:
    return ProcessSampler(executor, executor)


async def _sample(sampler: ProcessSampler) -> dict[str, float]:
    return {each.label: each.value for each in await sampler.sample()}


async def test_a_sample_has_the_documented_labels(executor: Executor) -> None:
    sampler = _sampler(executor)
    first, second = await _sample(sampler), await _sample(sampler)
    # Over the short time since psutil was loaded, `cpu percent` would mean nothing.
    assert set(second) - set(first) == {"cpu percent"}
    assert set(second) == {
        "user time",
        "system time",
        "max rss",
        "rss",
        "cpu percent",
        "open fds",
        "threads",
        "context switches voluntary",
        "context switches involuntary",
    }


async def test_times_and_switches_are_between_two_calls_of_getrusage(executor: Executor) -> None:
    sampler = _sampler(executor)
    before = resource.getrusage(resource.RUSAGE_SELF)
    sample = await _sample(sampler)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert before.ru_utime <= sample["user time"] <= after.ru_utime
    assert before.ru_stime <= sample["system time"] <= after.ru_stime
    assert before.ru_nvcsw <= sample["context switches voluntary"] <= after.ru_nvcsw
    assert before.ru_nivcsw <= sample["context switches involuntary"] <= after.ru_nivcsw
    assert before.ru_maxrss <= sample["max rss"] <= after.ru_maxrss


async def test_memory_is_current_and_in_bytes(executor: Executor) -> None:
    sampler = _sampler(executor)
    before = (await _sample(sampler))["rss"]
    # Mapped, since an allocator may have so much memory left over from other tests.
    with mmap.mmap(-1, 64 << 20) as block:
        block.write(bytes(len(block)))
        during = (await _sample(sampler))["rss"]
        assert during - before > len(block) // 2
    assert (await _sample(sampler))["rss"] < during


async def test_files_and_threads_are_counted(executor: Executor) -> None:
    sampler = _sampler(executor)
    before = await _sample(sampler)
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    with Path(os.devnull).open() as _:
        during = await _sample(sampler)
    gate.set()
    thread.join()
    assert during["threads"] == before["threads"] + 1
    assert during["open fds"] == before["open fds"] + 1


async def test_the_process_is_not_read_on_the_event_loops_thread(executor: Executor) -> None:
    readers: set[str] = set()

    class Process(psutil.Process):
        def num_fds(self) -> int:
            readers.add(threading.current_thread().name)
            return super().num_fds()

    await ProcessSampler(executor, executor, Process).sample()
    assert readers
    assert threading.current_thread().name not in readers


async def test_the_sample_after_a_cancelled_one_waits_for_the_same_load(
    executor: Executor,
) -> None:
    gate = threading.Event()

    def open_slowly() -> psutil.Process:
        gate.wait()
        return open_process()

    with ThreadPoolExecutor(1) as loader:
        sampler = ProcessSampler(executor, loader, open_slowly)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sampler.sample()
        gate.set()
        assert (await _sample(sampler))["rss"] > 0


async def test_a_failed_load_is_retried_by_the_next_sample(executor: Executor) -> None:
    failures: list[BaseException] = [ImportError("no psutil"), MemoryError()]

    def open_at_last() -> psutil.Process:
        if failures:
            raise failures.pop(0)
        return open_process()

    sampler = ProcessSampler(executor, executor, open_at_last)
    for failure in (ImportError, MemoryError):
        with pytest.raises(failure):
            await sampler.sample()
    assert (await _sample(sampler))["rss"] > 0
