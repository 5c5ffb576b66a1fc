"""Whether one process, and four, keep up 500,000 observations per second for a minute.

Each process runs an event loop on which a task times, every millisecond, the blocks that are
due. Another process sends it the time some 900 times a second. The lag of the loop is the age of
that time when it is handled: what a request would wait. The load runs first without recording,
which shows the share of the load and the machine, then with it, then in four processes at a
time. Files are on a memory file system and are removed by retention. If the machine can't reach
a rate even without recording, that rate says nothing about recording.

Arguments: seconds (60), observations per second and process (500,000).
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

import uvloop
from _machine import describe
from _table import show

from aqltelemetry import Monitor, time_block
from aqltelemetry.system import extensions

MEMORY = "/dev/shm"
TURN_S = 0.001
KEEP_BYTES = 64 << 20
COLUMNS = {
    "": "",
    "per s": ",.0f",
    "dropped": ",",
    "CPU s/s": ".2f",
    **{f"lag {share}, ms": ".2f" for share in ("p50", "p99", "p99.9", "max")},
    "RSS MiB": "",
}
SENDER = """
import socket, sys, time
with socket.socket(fileno=int(sys.argv[1])) as sender:
    while True:
        time.sleep(float(sys.argv[2]))
        sender.send(time.perf_counter_ns().to_bytes(8, sys.byteorder))
"""
Row = list[str | float | None]


def rss_mib() -> float:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)


async def load(rate: int, until_s: float) -> int:
    """Time the blocks that are due at each turn; return how many."""
    loop = asyncio.get_running_loop()
    begun_s, done = loop.time(), 0
    while (now_s := loop.time()) < until_s:
        # What a stall of the machine has left undone is made up for a little at a time.
        turn = min(int((now_s - begun_s) * rate) - done, int(2 * rate * TURN_S))
        for _ in range(turn):
            with time_block("/version [GET]"):
                pass
        done += turn
        await asyncio.sleep(TURN_S)
    return done


async def probe(until_s: float) -> list[int]:
    """Receive the time from another process; return its age when it was handled, in ns."""
    loop = asyncio.get_running_loop()
    lags_ns: list[int] = []
    sender, receiver = socket.socketpair(type=socket.SOCK_DGRAM)
    receiver.setblocking(False)

    def receive() -> None:
        with suppress(BlockingIOError):
            while True:
                sent_ns = int.from_bytes(receiver.recv(8), sys.byteorder)
                lags_ns.append(perf_counter_ns() - sent_ns)

    with sender, receiver:
        loop.add_reader(receiver, receive)
        arguments = ("-S", "-c", SENDER, str(sender.fileno()), str(TURN_S))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, pass_fds=[sender.fileno()]
        )
        try:
            await asyncio.sleep(until_s - loop.time())
        finally:
            loop.remove_reader(receiver)
            process.kill()
            await process.wait()
    return lags_ns


async def watch(memory_mib: list[float]) -> None:
    """Note the memory once a second."""
    while True:
        await asyncio.sleep(1)
        memory_mib.append(rss_mib())


async def run(directory: str, rate: int, seconds: float) -> dict[str, Any]:
    """Run the load in this process; return what was found."""
    memory_mib: list[float] = []
    monitor = Monitor(directory, keep_bytes=KEEP_BYTES)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        if directory:
            await stack.enter_async_context(monitor)
        watching = asyncio.create_task(watch(memory_mib))
        begun_s, cpu_ns = loop.time(), process_time_ns()
        until_s = begun_s + seconds
        done, lags_ns = await asyncio.gather(load(rate, until_s), probe(until_s))
        taken_s, cpu_ns = loop.time() - begun_s, process_time_ns() - cpu_ns
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return {
        "rate": done / taken_s,
        "dropped": sum(monitor.stats().dropped.values()),
        "cpu": cpu_ns / 1e9 / taken_s,
        "lag": sorted(lags_ns),
        "memory": memory_mib,
    }


def measure(title: str, processes: int, rate: int, seconds: float, *, is_on: bool) -> list[Row]:
    """Run processes at a time; return a row for each."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        place = directory if is_on else ""
        arguments = [sys.executable, __file__, "--child", place, str(rate), str(seconds)]
        children = [
            subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        found = [json.loads(child.communicate()[0]) for child in children]
    rows: list[Row] = []
    for each in found:
        lag = each["lag"]
        times = (lag[int(share * (len(lag) - 1))] / 1e6 for share in (0.5, 0.99, 0.999, 1))
        # Files that the loop's first seconds fill with begin are over by then.
        memory = each["memory"]
        rss = f"{memory[len(memory) // 4]:.0f}-{memory[-1]:.0f}"
        rows.append([title, each["rate"], each["dropped"], each["cpu"], *times, rss])
    if processes > 1:
        together = sum(each["rate"] for each in found)
        rows.append([f"{title}, together", together, *[None] * (len(COLUMNS) - 2)])
    return rows


def main() -> None:
    """Show one table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    rate = int(sys.argv[2]) if len(sys.argv) > 2 else 500_000
    describe("uvloop")
    rows = [
        *measure("without recording", 1, rate, seconds / 3, is_on=False),
        *measure("with recording", 1, rate, seconds, is_on=True),
        *measure("4 without recording", 4, rate, seconds / 3, is_on=False),
        *measure("4 with recording", 4, rate, seconds, is_on=True),
    ]
    title = (
        f"{rate:,} per second wanted of each process, for {seconds:g} s, {extensions.in_use()} twin"
    )
    show(title, COLUMNS, rows)


def child() -> None:
    """Run the load, and print what was found."""
    place, rate, seconds = sys.argv[2:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(place, int(rate), float(seconds)))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child()
    else:
        main()
