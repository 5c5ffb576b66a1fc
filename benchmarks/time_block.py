"""What timing a block costs, compared with an empty context manager and other packages.

Two processes take turns, one with the compiled hot path, one with the pure one; in each, all
contenders take turns in rounds. A figure is the median over the rounds of the time of one
statement minus that of an empty loop; a ratio compares figures of the same process. A block of
aqltelemetry ends in the crash-proof journal on a memory file system, from where it is published
to CSV files between rounds. Those of the other packages end in memory. The histogram is measured
without labels and with one, which corresponds to a label of aqltelemetry; spans with a tracer
that has no processor, and with the batching processor that the documentation recommends, whose
exporter does nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from time import perf_counter_ns

from _machine import describe
from _table import show
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, Histogram

from aqltelemetry import Monitor, record, time_block, time_it
from aqltelemetry.system import extensions

# So few that a turn is mostly over before the operating system gives the processor away.
ITERATIONS = 300
DEAR_ITERATIONS = 30
UNTIMED = 3
"""Iterations before each turn, which have the code and its data in the caches."""
ROUNDS = 301
WARM_UP = 5
_REGISTRY = CollectorRegistry()
HISTOGRAM = Histogram("request_seconds", "of a request", registry=_REGISTRY)
LABELLED = Histogram("labelled_seconds", "of a request", ["route"], registry=_REGISTRY)
TRACER = TracerProvider(shutdown_on_exit=False).get_tracer(__name__)
METER = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter(__name__)
OTEL_HISTOGRAM = METER.create_histogram("duration", "s")


class NoExporter(SpanExporter):
    """Takes spans and leaves them."""

    def export(self, spans: object) -> SpanExportResult:
        """Do nothing."""
        del spans
        return SpanExportResult.SUCCESS


BATCHING = TracerProvider(shutdown_on_exit=False)
BATCHING.add_span_processor(BatchSpanProcessor(NoExporter(), max_queue_size=1 << 16))
BATCH_TRACER = BATCHING.get_tracer(__name__)


async def empty_loop(iterations: int) -> None:
    for _ in range(iterations):
        pass


async def with_nullcontext(iterations: int) -> None:
    for _ in range(iterations):
        with nullcontext():
            pass


async def async_with_nullcontext(iterations: int) -> None:
    for _ in range(iterations):
        async with nullcontext():
            pass


async def two_clock_reads(iterations: int) -> None:
    for _ in range(iterations):
        perf_counter_ns()
        perf_counter_ns()


async def with_time_block(iterations: int) -> None:
    for _ in range(iterations):
        with time_block("block"):
            pass


async def async_with_time_block(iterations: int) -> None:
    for _ in range(iterations):
        async with time_block("block"):
            pass


async def with_cpu_time_block(iterations: int) -> None:
    for _ in range(iterations):
        with time_block("block", cpu=True):
            pass


def plain() -> None:
    pass


timed = time_it(label="function")(plain)


async def call_plain(iterations: int) -> None:
    for _ in range(iterations):
        plain()


async def call_timed(iterations: int) -> None:
    for _ in range(iterations):
        timed()


async def call_record(iterations: int) -> None:
    for _ in range(iterations):
        record("value", 1.5)


async def with_histogram(iterations: int) -> None:
    for _ in range(iterations):
        with HISTOGRAM.time():
            pass


async def with_labelled_histogram(iterations: int) -> None:
    for _ in range(iterations):
        with LABELLED.labels("block").time():
            pass


async def otel_histogram(iterations: int) -> None:
    attributes = {"route": "block"}
    for _ in range(iterations):
        started_ns = perf_counter_ns()
        OTEL_HISTOGRAM.record((perf_counter_ns() - started_ns) / 1e9, attributes)


async def with_span(iterations: int) -> None:
    for _ in range(iterations):
        with TRACER.start_as_current_span("block"):
            pass


async def with_batched_span(iterations: int) -> None:
    for _ in range(iterations):
        with BATCH_TRACER.start_as_current_span("block"):
            pass


Contender = Callable[[int], Awaitable[None]]
EMPTY = "an empty loop"
NOTHING = "with nullcontext()"
OURS: dict[str, Contender] = {
    "with time_block(...)": with_time_block,
    "async with time_block(...)": async_with_time_block,
    "with time_block(..., cpu=True)": with_cpu_time_block,
    "timed()  # by time_it": call_timed,
    "record(...)": call_record,
}
OBSERVATIONS = len(OURS) + 1
"""Of one iteration of each; `cpu=True` records two."""
CONTENDERS: dict[str, Contender] = {
    EMPTY: empty_loop,
    "plain()": call_plain,
    "two perf_counter_ns()": two_clock_reads,
    NOTHING: with_nullcontext,
    "async with nullcontext()": async_with_nullcontext,
    **OURS,
    "with HISTOGRAM.time()": with_histogram,
    "with LABELLED.labels(...).time()": with_labelled_histogram,
    "OTEL_HISTOGRAM.record(...)": otel_histogram,
    "with TRACER.start_as_current_span(...)": with_span,
    "the same, batched for export": with_batched_span,
}
DEAR = set(list(CONTENDERS)[-3:])
"""Contenders that take so long that fewer iterations are enough."""


async def one_round(monitor: Monitor | None) -> dict[str, float]:
    """Return the nanoseconds that one iteration of each takes; of some where it is off."""
    taken = {}
    for name, contender in CONTENDERS.items():
        if monitor is None and name not in (EMPTY, NOTHING, *OURS):
            continue
        iterations = DEAR_ITERATIONS if name in DEAR else ITERATIONS
        await contender(UNTIMED)
        started_ns = perf_counter_ns()
        await contender(iterations)
        taken[name] = (perf_counter_ns() - started_ns) / iterations
    BATCHING.force_flush()
    if monitor is not None:
        await monitor.flush()
    return taken


async def child() -> None:
    """Measure a round for each line of the input, off or on; print its figures."""
    print(extensions.in_use(), flush=True)
    for _ in range(ROUNDS + WARM_UP):
        sys.stdin.readline()
        print(json.dumps(await one_round(None)), flush=True)
    with tempfile.TemporaryDirectory() as directory:
        async with Monitor(directory, with_runtime=False) as monitor:
            for _ in range(ROUNDS + WARM_UP):
                sys.stdin.readline()
                print(json.dumps(await one_round(monitor)), flush=True)
        stats = monitor.stats()
    assert stats.published == (ROUNDS + WARM_UP) * OBSERVATIONS * (ITERATIONS + UNTIMED), stats
    assert not stats.dropped, stats


def start(environment: dict[str, str]) -> tuple[str, subprocess.Popen[str]]:
    """Start a process that measures; return which twin is in use there."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--child"],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process.stdout.readline().strip(), process


def measure() -> dict[str, list[dict[str, float]]]:
    """Return the medians of each contender by twin, with recording off and on."""
    children = dict(start(each) for each in ({}, {extensions.VARIABLE: "1"}))
    found: dict[str, list[dict[str, list[float]]]] = {twin: [{}, {}] for twin in children}
    for is_on in (False, True):
        for number in range(-WARM_UP, ROUNDS):
            for twin, process in children.items():
                assert process.stdin is not None
                assert process.stdout is not None
                print("go", file=process.stdin, flush=True)
                for name, time_ns in json.loads(process.stdout.readline()).items():
                    if number >= 0:
                        found[twin][is_on].setdefault(name, []).append(time_ns)
    for process in children.values():
        process.communicate()
    return {
        twin: [
            {name: statistics.median(times) for name, times in rounds.items()} for rounds in both
        ]
        for twin, both in found.items()
    }


def show_table(title: str, times_ns: dict[str, float]) -> None:
    """Show a table."""
    empty_ns = times_ns.pop(EMPTY)
    costs_ns = {name: time_ns - empty_ns for name, time_ns in times_ns.items()}
    ours_ns, nothing_ns = costs_ns[next(iter(OURS))], costs_ns[NOTHING]
    columns = {"": "", "ns": ".0f", "x nullcontext": ".2f", "x time_block": ".2f"}
    rows = [
        (f"`{name}`", cost_ns, cost_ns / nothing_ns, cost_ns / ours_ns)
        for name, cost_ns in costs_ns.items()
    ]
    show(title, columns, rows, drawn="x nullcontext")


def main() -> None:
    """Show two tables for each twin."""
    describe("prometheus-client", "opentelemetry-sdk")
    for twin, (off, on) in measure().items():
        show_table(f"One block or value, {twin} twin, recording", on)
        show_table(f"One block or value, {twin} twin, off", off)


if __name__ == "__main__":
    if "--child" in sys.argv:
        asyncio.run(child())
    else:
        main()
