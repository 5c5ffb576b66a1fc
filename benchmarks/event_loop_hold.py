"""How long recording holds the event loop at 50,000 observations per second.

A load task times 500 blocks every 10 ms; between them, the loop is free. Every ms a probe notes
how late it is, and how much of that recording can have caused at most: the processor time that
threads other than the loop's took meanwhile. The rest was caused by the load, the operating
system, or the machine's host. With the recording on, segments are formatted, written and
published meanwhile, and the samplers run ten times as often as usual. "Without" is the same load
and the same probe with the recording off. Both take turns.

The last table shows the longest steps that the recording's threads take without releasing the
interpreter's lock, in processor time, which neither other threads nor the machine's host add to.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter_ns, process_time_ns, thread_time_ns, time_ns
from typing import NamedTuple

import uvloop
from _machine import describe
from _table import show

from aqltelemetry import Monitor, time_block
from aqltelemetry.journal.labels import LabelLimit
from aqltelemetry.journal.reader import read_segment
from aqltelemetry.journal.writer import Writer, WriterOptions
from aqltelemetry.recording.recorder import Recording, install, remove
from aqltelemetry.recording.stats import Stats
from aqltelemetry.sinks.account import AccountBuilder
from aqltelemetry.sinks.csv_rows import format_batch
from aqltelemetry.system.clock import read_anchor

PER_TURN = 500
TURN_S = 0.01
PROBE_S = 0.001
ROUND_S = 4.0
ROUNDS = 6
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
RUNS = 21


async def load(until_s: float) -> None:
    """Time 500 blocks every 10 ms, in five portions, so as not to hold the loop itself."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while due_s < until_s:
        for _ in range(5):
            for _ in range(PER_TURN // 5):
                with time_block("/version [GET]"):
                    pass
            await asyncio.sleep(0)
        due_s += TURN_S
        await asyncio.sleep(max(due_s - loop.time(), 0))


class Tick(NamedTuple):
    """How late a tick was, and of that, at most how much was other threads'."""

    late_ns: int
    others_ns: int


async def probe(until_s: float) -> list[Tick]:
    """Note how late each tick is."""
    loop = asyncio.get_running_loop()
    ticks = []
    while loop.time() < until_s:
        started_ns, others_ns = perf_counter_ns(), process_time_ns() - thread_time_ns()
        await asyncio.sleep(PROBE_S)
        late_ns = perf_counter_ns() - started_ns - round(PROBE_S * 1e9)
        others_ns = process_time_ns() - thread_time_ns() - others_ns
        ticks.append(Tick(late_ns, max(min(others_ns, late_ns), 0)))
    return ticks


async def one_round(directory: str | None) -> tuple[list[Tick], Stats]:
    """Run the load for a while; return the probe's findings and the account."""
    async with AsyncExitStack() as stack:
        monitor = Monitor(directory, interval_s=0.1)
        if directory is not None:
            await stack.enter_async_context(monitor)
        until_s = asyncio.get_running_loop().time() + ROUND_S
        ticks, _ = await asyncio.gather(probe(until_s), load(until_s))
    return ticks, monitor.stats()


async def measure(loop: str) -> None:
    """Show the figures of one kind of loop."""
    found: dict[bool, list[Tick]] = {False: [], True: []}
    recorded = dropped = 0
    with tempfile.TemporaryDirectory() as directory:
        for number in range(2 * ROUNDS):
            on = number % 2 == 1
            ticks, stats = await one_round(directory if on else None)
            found[on] += ticks
            recorded += stats.recorded
            dropped += sum(stats.dropped.values())
    rows = [
        percentiles("late, without", [tick.late_ns for tick in found[False]]),
        percentiles("late, with", [tick.late_ns for tick in found[True]]),
        percentiles("of that ours, at most", [tick.others_ns for tick in found[True]]),
    ]
    rate = recorded / ROUNDS / ROUND_S
    title = (
        f"Lateness of a tick, in ms, on {loop}: {rate:,.0f} observations per second, "
        f"{dropped} dropped"
    )
    show(title, {"": "", "ticks": ",", **dict.fromkeys(SHARES, ".2f")}, rows)


def percentiles(name: str, times_ns: list[int]) -> tuple[str, float, *tuple[float, ...]]:
    """Return a row."""
    times_ns.sort()
    return (
        name,
        len(times_ns),
        *(times_ns[int(share * (len(times_ns) - 1))] / 1e6 for share in SHARES.values()),
    )


class Steps:
    """Stands for `yield_gil`: notes how long the work since the last breath took."""

    def __init__(self) -> None:
        self.longest_ns = 0
        self._since_ns = thread_time_ns()

    def __call__(self) -> None:
        """Take a breath."""
        now_ns = thread_time_ns()
        self.longest_ns = max(self.longest_ns, now_ns - self._since_ns)
        self._since_ns = thread_time_ns()


def steps() -> None:
    """Show the longest step of each work: the median and the maximum over some runs."""
    longest_ns: dict[str, list[int]] = {}
    for _ in range(RUNS):
        for name, work in _works():
            steps = Steps()
            work(steps)
            steps()
            longest_ns.setdefault(name, []).append(steps.longest_ns)
    title = f"Longest step between two releases of the interpreter's lock, in ms, of {RUNS} runs"
    rows = [
        (name, statistics.median(found) / 1e6, max(found) / 1e6)
        for name, found in longest_ns.items()
    ]
    show(title, {"": "", "median": ".2f", "max": ".2f"}, rows)


def _works() -> Iterator[tuple[str, Callable[[Steps], object]]]:
    with tempfile.TemporaryDirectory() as directory:
        writer = Writer.in_journal(
            Path(directory), WriterOptions(directory, 16 << 20, time_ns, LabelLimit())
        )
        yield "making a segment", writer.new_segment
        segment = writer.new_segment()
        recording = Recording(segment, read_anchor())
        install(recording)
        for _ in range(segment.capacity):
            with time_block("/version [GET]"):
                pass
        remove(recording)
        data = segment.map[:]
        yield (
            "reading a full one",
            lambda steps: read_segment(data, recovered=False, yield_gil=steps),
        )
        yield (
            "reading a full one of a dead process",
            lambda steps: read_segment(data, recovered=True, yield_gil=steps),
        )
        batch = read_segment(data, recovered=False).batch
        yield "formatting its observations", lambda steps: format_batch(batch, yield_gil=steps)
        texts = format_batch(batch)
        yield "adding it to the account", lambda _: AccountBuilder().add(batch.account, texts)
        writer.close()


def main() -> None:
    """Measure under uvloop and the stock loop."""
    describe("uvloop")
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "uvloop": uvloop.new_event_loop,
        "the stock loop": asyncio.new_event_loop,
    }
    for name, new_loop in loops.items():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(measure(name))
    steps()


if __name__ == "__main__":
    main()
