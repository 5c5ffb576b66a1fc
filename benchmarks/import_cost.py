"""What importing costs a worker that has imported asyncio, and starting a monitor there.

Each figure is the median of new processes, taking turns. The time of a start is until
recording is on; its memory is looked at after a second, when all that is loaded and
mapped has been used, segments of the journal included. A worker has uvloop and aiohttp,
which import some of the same modules; here it has neither.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from _machine import describe

from aqltelemetry.twins import VARIABLE

ROUNDS = 15
PROGRAM = """
import asyncio, time
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
before, started = rss(), time.perf_counter()
import {module}
print(rss() - before, time.perf_counter() - started)
"""
START = """
import asyncio, sys, tempfile, time
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
async def main(directory):
    before, started = rss(), time.perf_counter()
    import aqltelemetry
    monitor = aqltelemetry.Monitor(directory)
    await monitor.start()
    taken = time.perf_counter() - started
    await asyncio.sleep(1)
    print(rss() - before, taken)
    await monitor.stop()
with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(directory))
"""
MODULES = ("aqltelemetry", "prometheus_client", "opentelemetry.sdk.trace")


STARTS = {"compiled": {}, "pure Python": {VARIABLE: "1"}}


def measure(program: str, environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Return MiB and milliseconds."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | (environment or {}),
        check=True,
        capture_output=True,
        text=True,
    )
    rss_bytes, time_s = map(float, done.stdout.split())
    return rss_bytes / (1 << 20), time_s * 1e3


def main() -> None:
    """Print one table."""
    describe("prometheus-client", "opentelemetry-sdk")
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for module in MODULES:
            figures = measure(PROGRAM.format(module=module))
            found.setdefault(f"import {module}", []).append(figures)
        for twin, environment in STARTS.items():
            found.setdefault(f"import and start, {twin}", []).append(measure(START, environment))
    for name, pairs in found.items():
        mib, ms = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:33}{mib:6.1f} MiB{ms:7.0f} ms   (least {min(ms for _, ms in pairs):.0f} ms)")


if __name__ == "__main__":
    main()
