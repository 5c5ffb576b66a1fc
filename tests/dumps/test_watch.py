"""A dump is made when a condition begins to hold, or one is requested, and not more often."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aqltelemetry import Monitor, time_block
from aqltelemetry.conditions import parse_conditions
from aqltelemetry.dumps import kept, watch
from aqltelemetry.dumps.making import Order
from aqltelemetry.dumps.triggers import Fired, Triggers
from aqltelemetry.dumps.watch import Job, Watch
from aqltelemetry.recording.recorder import append_duration
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.system.clock import NS_PER_S, epoch_ns, monotonic_ns

_SLOW = "longest-2000-ms-of-work"


class _Clock:
    """The present time, moved by a number of seconds."""

    def __init__(self) -> None:
        self.ahead_s = 2  # a window ends before the present second

    def __call__(self) -> int:
        return epoch_ns() + self.ahead_s * NS_PER_S


def _watch(directory: Path, clock: _Clock, text: str = "max work > 1s") -> Watch:
    return Watch(Job(str(directory), parse_conditions(text)), clock)


def _reasons(directory: Path) -> list[str]:
    return [Path(each.path).name.partition("-")[2] for each in kept.find(str(directory))]


async def test_a_dump_is_made_once_when_a_condition_begins_to_hold(directory: Path) -> None:
    clock = _Clock()
    async with Monitor(directory, with_runtime=False):
        with time_block("work"):
            pass
        watching = _watch(directory, clock)
        assert await asyncio.to_thread(watching.step) is None
        append_duration("work", monotonic_ns(), 2 * NS_PER_S)
        path = await asyncio.to_thread(watching.step)
        assert await asyncio.to_thread(watching.step) is None
    assert path is not None
    assert _reasons(directory) == [_SLOW]
    assert kept.find(str(directory))[0].path == path


def test_each_condition_that_comes_and_goes_makes_one_dump_a_minute(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()
    lag, killed = parse_conditions("lag > 1s; killed")
    firing: list[list[Fired]] = [[]]
    made: list[str] = []

    def make(order: Order) -> str:
        made.append(order.reason)
        return order.reason

    monkeypatch.setattr(watch, "make", make)
    monkeypatch.setattr(Triggers, "fired", lambda *_: firing[-1])
    clock = _Clock()
    watching = _watch(directory, clock)
    for clock.ahead_s, found in (
        (2, [Fired(lag, "lag")]),
        (3, []),
        (30, [Fired(lag, "lag"), Fired(killed, "killed")]),  # this dump is one of lag too
        (62, [Fired(lag, "lag"), Fired(killed, "killed")]),
        (91, [Fired(lag, "lag"), Fired(killed, "killed")]),
    ):
        firing.append(found)
        watching.step()
    assert made == ["lag", "killed", "lag; killed"]
    assert watching.skipped == 1


async def test_a_request_makes_a_dump_at_once(five_requests: Path) -> None:
    controls = ControlFiles(str(five_requests))
    controls.request_dump()  # to a process that has ended
    watching = _watch(five_requests, _Clock())
    assert await asyncio.to_thread(watching.step) is None
    for _ in range(2):
        controls.request_dump()
        controls.request_dump()  # before it is carried out
        assert await asyncio.to_thread(watching.step) is not None
    assert await asyncio.to_thread(watching.step) is None


async def test_what_another_process_made_a_dump_of_makes_no_second_one(directory: Path) -> None:
    clock = _Clock()
    async with Monitor(directory, with_runtime=False):
        append_duration("work", monotonic_ns(), 2 * NS_PER_S)
        assert await asyncio.to_thread(_watch(directory, clock).step) is not None
        assert await asyncio.to_thread(_watch(directory, clock).step) is None
