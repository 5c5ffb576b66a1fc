"""A dump has each row of the last seconds once, published or not, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from aqltelemetry import Monitor, TelemetryDB, time_block
from aqltelemetry.dumps import making
from aqltelemetry.dumps.making import Order, make
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

_PROGRAM = """
import sys, time
from aqltelemetry import sync
sync.start(sys.argv[1])
for _ in range(10):
    with sync.time_block("work"):
        pass
print("recorded", flush=True)
time.sleep(300)
"""


async def _made(order: Order) -> str:
    """Make a dump next to the event loop of the test."""
    return await asyncio.to_thread(make, order)


def _labels(path: str) -> Counter[str]:
    return Counter(TelemetryDB(path).duration().data()["Label"])


def _files(directory: Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in found if "dumps" not in path.parts}


async def test_published_and_unpublished_rows_of_a_running_recording_are_there_once(
    directory: Path,
) -> None:
    async with Monitor(directory, with_runtime=False) as monitor:
        for _ in range(3):
            with time_block("published"):
                pass
        await monitor.flush()
        for _ in range(5):
            with time_block("in the journal"):
                pass
        path = await _made(Order(str(directory), "by hand"))
    assert _labels(path) == {"published": 3, "in the journal": 5}
    assert list(TelemetryDB(path).writers()["state"]) == ["unknown"]  # it was not killed
    assert not (Path(path) / ".journal").exists()
    assert _labels(str(directory)) == _labels(path)


@pytest.mark.system
def test_a_dump_of_a_killed_process_says_so_and_changes_nothing(directory: Path) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recorded\n"
        process.send_signal(signal.SIGKILL)
    before = _files(directory)
    path = make(Order(str(directory), "killed"))
    assert _labels(path) == {"work": 10}
    assert list(TelemetryDB(path).writers()["state"]) == ["killed"]
    assert _files(directory) == before


async def test_files_that_ended_before_are_left_out(directory: Path) -> None:
    async with Monitor(directory, with_runtime=False):
        with time_block("old"):
            pass
    later_ns = epoch_ns() + 100 * NS_PER_S
    assert _labels(await _made(Order(str(directory), "late", 99.0, later_ns))) == {}
    assert _labels(await _made(Order(str(directory), "in time", 200.0, later_ns))) == {"old": 1}


async def test_two_dumps_of_one_second_get_different_names(five_requests: Path) -> None:
    order = Order(str(five_requests), "twice", at_ns=epoch_ns())
    assert await _made(order) + "-2" == await _made(order)


async def test_a_dump_says_why_and_when(five_requests: Path) -> None:
    path = await _made(Order(str(five_requests), "p99 1,200 ms", at_ns=1_795_489_012 * NS_PER_S))
    document = json.loads((Path(path) / "dump.json").read_text())
    assert document["reason"] == "p99 1,200 ms"
    assert document["at_ns"] == 1_795_489_012 * NS_PER_S
    assert document["segments_left_out"] == 0


async def test_files_are_copied_where_there_are_no_links(
    five_requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("aqltelemetry.system.syscalls.link", refuse)
    assert _labels(await _made(Order(str(five_requests), "copied"))) == {"/a [GET]": 5}


async def test_the_oldest_segments_above_a_size_are_left_out_and_counted(directory: Path) -> None:
    async with Monitor(directory, with_runtime=False):
        with time_block("in the journal"):
            pass
        order = Order(str(directory), "small", most_bytes=1000)
        path = await _made(order)
    assert json.loads((Path(path) / "dump.json").read_text())["segments_left_out"] == 1
    assert _labels(path) == {}


async def test_a_dump_that_fails_leaves_nothing(
    five_requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making, "_describe", fail)
    with pytest.raises(OSError, match="No space left"):
        await _made(Order(str(five_requests), "full"))
    assert os.listdir(five_requests / "dumps") == []
