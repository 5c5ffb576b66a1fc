"""Whether the cost of an observation depends on the number of labels, threads and observations.

Each row is a process that records 500,000 blocks per second and publishes them meanwhile; the
pauses between its turns do not count. A cost is the processor time of the recording thread per
block, minus that of an empty loop; the median over the turns. The ratio is to the smallest cost
of the table.

Arguments: the power of ten of the most observations (8).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter, sleep, thread_time_ns

from _machine import describe
from _table import show

from aqltelemetry import Monitor, time_block
from aqltelemetry.system import extensions

MEMORY = "/dev/shm"
RATE = 500_000
TURN = 500
"""Blocks of a turn, after which others may run."""


def turn(labels: Sequence[str], begin: int) -> float:
    """Record blocks of labels in turn; return the nanoseconds that one takes."""
    count = len(labels)
    started_ns = thread_time_ns()
    for number in range(begin, begin + TURN):
        with time_block(labels[number % count]):
            pass
    middle_ns = thread_time_ns()
    for number in range(begin, begin + TURN):
        labels[number % count]
    return (2 * middle_ns - started_ns - thread_time_ns()) / TURN


def work(labels: Sequence[str], turns: int, turn_s: float, costs_ns: list[float]) -> None:
    """Record some turns, each of them due after so many seconds."""
    begun_s = perf_counter()
    for number in range(turns):
        costs_ns.append(turn(labels, number * TURN))
        sleep(max(begun_s + (number + 1) * turn_s - perf_counter(), 0))


async def run(labels: int, threads: int, observations: int) -> tuple[float, float, int]:
    """Record; return the median and mean cost, and how many were dropped."""
    names = [f"/route/{number} [GET]" for number in range(labels)]
    costs_ns: list[float] = []
    turns = max(1, observations // threads // TURN)
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        monitor = Monitor(directory, with_runtime=False, keep_bytes=64 << 20)
        async with monitor:
            workers = (
                asyncio.to_thread(work, names, turns, threads * TURN / RATE, costs_ns)
                for _ in range(threads)
            )
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(threads))
            await asyncio.gather(*workers)
        stats = monitor.stats()
    assert stats.recorded == turns * threads * TURN, stats
    return statistics.median(costs_ns), statistics.mean(costs_ns), sum(stats.dropped.values())


def table(title: str, rows: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    """Show what each row costs."""
    costs: list[tuple[str, float, float, int]] = []
    for name, arguments in rows:
        done = subprocess.run(
            [sys.executable, __file__, "--child", *map(str, arguments)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        median_ns, mean_ns, dropped = json.loads(done.stdout)
        costs.append((name, median_ns, mean_ns, dropped))
    least_ns = min(median_ns for _, median_ns, *_ in costs)
    costed = [
        (name, median_ns, mean_ns, median_ns / least_ns, dropped)
        for name, median_ns, mean_ns, dropped in costs
    ]
    kinds = {"ns, median": ".0f", "ns, mean": ".0f", "x least": ".2f", "dropped": ","}
    cost = f"Cost of a block by the number of {title}, {extensions.in_use()} twin"
    show(cost, {title: "", **kinds}, costed, drawn="x least", is_curve=True)


def main() -> None:
    """Show one table for each question."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    describe()
    table(
        "labels",
        [(f"{10**power:,}", (10**power, 1, 10**6)) for power in range(5)],
    )
    table("threads", [(str(2**power), (10, 2**power, 10**6)) for power in range(7)])
    table("observations", [(f"{10**power:,}", (10, 1, 10**power)) for power in range(3, most + 1)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asyncio.run(run(*map(int, sys.argv[2:])))))
    else:
        main()
