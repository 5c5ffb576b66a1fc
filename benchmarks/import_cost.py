"""What importing costs a worker that has imported asyncio: memory and time.

Each figure is the median of new processes, taking turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from _machine import describe

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
MODULES = ("aqltelemetry", "prometheus_client", "opentelemetry.sdk.trace")


def measure(module: str) -> tuple[float, float]:
    """Return MiB and milliseconds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)],
        check=True,
        capture_output=True,
        text=True,
    )
    rss_bytes, time_s = map(float, done.stdout.split())
    return rss_bytes / (1 << 20), time_s * 1e3


def main() -> None:
    """Print one table."""
    describe("prometheus-client", "opentelemetry-sdk")
    found: dict[str, list[tuple[float, float]]] = {module: [] for module in MODULES}
    for _ in range(ROUNDS):
        for module in MODULES:
            found[module].append(measure(module))
    for module, pairs in found.items():
        mib, ms = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"import {module:26}{mib:6.1f} MiB{ms:7.0f} ms")


if __name__ == "__main__":
    main()
