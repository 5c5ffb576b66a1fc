"""What importing and starting costs a worker that has imported asyncio: memory and time.

Started is what a worker would start: a monitor that records, on its event loop; a tracer
with a processor that exports in batches. Each figure is the median of new processes, taking
turns, with the quartiles of the time. Memory is resident memory, the journal's included.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile

from _machine import describe
from _table import show

ROUNDS = 15
PROGRAM = """
import asyncio, time
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
async def main():
    before, started = rss(), time.perf_counter()
    {work}
    print(rss() - before, time.perf_counter() - started)
asyncio.run(main())
"""
_TRACER = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
"""
WORKS = {
    "import aqltelemetry": "import aqltelemetry",
    "and start a monitor": """
    import aqltelemetry
    await aqltelemetry.monitor.start({directory!r})
""",
    "import prometheus_client": "import prometheus_client",
    "import opentelemetry.sdk.trace": "import opentelemetry.sdk.trace",
    "and start a tracer": _TRACER,
}


def measure(work: str) -> tuple[float, float]:
    """Return MiB and milliseconds."""
    with tempfile.TemporaryDirectory() as directory:
        program = PROGRAM.format(work=work.format(directory=directory).strip())
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
    rss_bytes, time_s = map(float, done.stdout.split())
    return rss_bytes / (1 << 20), time_s * 1e3


def main() -> None:
    """Print one table."""
    describe("prometheus-client", "opentelemetry-sdk")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WORKS}
    for _ in range(ROUNDS):
        for name, work in WORKS.items():
            found[name].append(measure(work))
    rows: list[list[str | float]] = []
    for name, pairs in found.items():
        mib, ms = zip(*pairs, strict=True)
        low, middle, high = statistics.quantiles(ms, n=4)
        rows.append([name, statistics.median(mib), middle, f"{low:.0f}-{high:.0f}"])
    columns = {"": "", "MiB": ".1f", "ms": ".0f", "quartiles of ms": ""}
    show("Above a process that has imported asyncio", columns, rows, drawn="ms")


if __name__ == "__main__":
    main()
