"""Samples of stacks, as speedscope opens them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aqltelemetry.runtime.stack_profiler import StackProfiler
from aqltelemetry.system.threads import WorkerThread
from fakes import FakeClock


@pytest.fixture
def waiting() -> Iterator[threading.Thread]:
    """A thread of the application that waits in a known function."""
    may_end, is_there = threading.Event(), threading.Event()

    def outer() -> None:
        inner()

    def inner() -> None:
        is_there.set()
        may_end.wait()

    thread = threading.Thread(target=outer, name="worker of the application")
    thread.start()
    is_there.wait()
    yield thread
    may_end.set()
    thread.join()


def _profile(result: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (each for each in result["profiles"] if each["name"] == name)
    return found  # type: ignore[no-any-return]


def _stacks(result: dict[str, Any], name: str) -> list[list[str]]:
    frames = [frame["name"].rpartition(".")[2] for frame in result["shared"]["frames"]]
    return [[frames[number] for number in stack] for stack in _profile(result, name)["samples"]]


def test_a_stack_is_outermost_first_and_weighs_the_time_it_was_seen(
    waiting: threading.Thread,
) -> None:
    clock = FakeClock()
    profiler = StackProfiler(1, clock)
    profiler.start()
    profiler.end()
    clock.now_ns += 1_000_000_000
    profiler.sample()
    clock.now_ns += 500_000_000
    profiler.sample()
    result = profiler.result()
    *_, stack = _stacks(result, waiting.name)
    assert stack[stack.index("outer") :][:3] == ["outer", "inner", "wait"]
    # At least these two; the samples in between took no time by this clock.
    found = _profile(result, waiting.name)
    assert (found["endValue"], sum(found["weights"])) == (1.5, 1.5)
    assert len(found["samples"]) == len(found["weights"])


def test_threads_of_the_telemetry_are_left_out(waiting: threading.Thread) -> None:
    thread = WorkerThread("aqltelemetry-test")
    profiler = StackProfiler(1)
    profiler.sample()
    thread.submit(profiler.sample).result()
    names = {each["name"] for each in profiler.result()["profiles"]}
    assert {waiting.name, threading.current_thread().name} <= names
    assert not [name for name in names if name.startswith("aqltelemetry")]
    thread.shutdown()


def test_a_thread_takes_the_samples_and_the_file_is_json(
    tmp_path: Path, waiting: threading.Thread
) -> None:
    profiler = StackProfiler(1)
    profiler.start()
    while not profiler.result()["profiles"]:
        pass
    profiler.end()
    profiler.dump(tmp_path / "found.json")
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert {each["type"] for each in written["profiles"]} == {"sampled"}
    assert {each["unit"] for each in written["profiles"]} == {"seconds"}
    numbers = {n for each in written["profiles"] for stack in each["samples"] for n in stack}
    assert numbers <= set(range(len(written["shared"]["frames"])))


def test_a_deep_recursion_is_cut_at_its_outer_end() -> None:
    def dive(depth: int, profiler: StackProfiler) -> None:
        if depth:
            dive(depth - 1, profiler)
        else:
            profiler.sample()

    profiler = StackProfiler(1)
    dive(600, profiler)
    (stack,) = _stacks(profiler.result(), threading.current_thread().name)
    assert len(stack) == 500
    assert stack[-2:] == ["dive", "sample"]
