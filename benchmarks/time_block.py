"""What timing a block costs, beside a context manager that does nothing and two peers.

All take turns in the same process, in rounds; a figure is the median over the
rounds, of what one `with` statement takes beyond an empty loop. The peers are
given their cheapest form: a histogram without labels, and spans of a tracer
without any processor or exporter, so that theirs ends in memory; ours ends in
the crash-proof journal, from where it is published to CSV files between rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from time import perf_counter_ns

from _machine import describe
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Histogram

from aqltelemetry import Monitor, time_block

ITERATIONS = 10_000
ROUNDS = 61
HISTOGRAM = Histogram("request_seconds", "of a request", registry=CollectorRegistry())
TRACER = TracerProvider(shutdown_on_exit=False).get_tracer(__name__)


async def empty_loop() -> None:
    for _ in range(ITERATIONS):
        pass


async def with_nullcontext() -> None:
    for _ in range(ITERATIONS):
        with nullcontext():
            pass


async def async_with_nullcontext() -> None:
    for _ in range(ITERATIONS):
        async with nullcontext():
            pass


async def with_time_block() -> None:
    for _ in range(ITERATIONS):
        with time_block("block"):
            pass


async def async_with_time_block() -> None:
    for _ in range(ITERATIONS):
        async with time_block("block"):
            pass


async def with_histogram() -> None:
    for _ in range(ITERATIONS):
        with HISTOGRAM.time():
            pass


async def with_span() -> None:
    for _ in range(ITERATIONS):
        with TRACER.start_as_current_span("block"):
            pass


CONTENDERS: dict[str, Callable[[], Awaitable[None]]] = {
    "an empty loop": empty_loop,
    "with nullcontext()": with_nullcontext,
    "async with nullcontext()": async_with_nullcontext,
    "with time_block(...)": with_time_block,
    "async with time_block(...)": async_with_time_block,
    "with HISTOGRAM.time()": with_histogram,
    "with TRACER.start_as_current_span(...)": with_span,
}


async def measure() -> dict[str, float]:
    """Return the nanoseconds that one iteration of each takes."""
    taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as directory:
        async with Monitor(directory, with_runtime=False) as monitor:
            for number in range(-5, ROUNDS):
                for name, contender in CONTENDERS.items():
                    started_ns = perf_counter_ns()
                    await contender()
                    if number >= 0:
                        taken[name].append((perf_counter_ns() - started_ns) / ITERATIONS)
                await monitor.flush()
        stats = monitor.stats()
    assert stats.published == (ROUNDS + 5) * 2 * ITERATIONS, stats
    assert not stats.dropped, stats
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Print one table."""
    describe("prometheus-client", "opentelemetry-sdk")
    times_ns = asyncio.run(measure())
    empty_ns = times_ns.pop("an empty loop")
    costs_ns = {name: time_ns - empty_ns for name, time_ns in times_ns.items()}
    nothing_ns, histogram_ns = costs_ns["with nullcontext()"], costs_ns["with HISTOGRAM.time()"]
    print(f"{'':40}{'ns':>7}{'x nullcontext':>15}{'x Histogram':>13}")
    for name, cost_ns in costs_ns.items():
        print(f"{name:40}{cost_ns:7.0f}{cost_ns / nothing_ns:15.2f}{cost_ns / histogram_ns:13.2f}")


if __name__ == "__main__":
    main()
