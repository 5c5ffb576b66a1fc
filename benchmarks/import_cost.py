"""What the import costs a worker that has imported asyncio, and the start of a monitor.

Each figure is the median of new processes, which take turns. The time of a start ends when
recording is on. Its memory is measured a second later, when everything that is loaded and mapped
has been used, including three segments of the journal. Two cases are measured: a process that
has imported only asyncio, and a worker that has imported its server and framework, which need
some of the same modules. All modules are compiled to bytecode before, as an installation does.
"""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from _machine import describe
from _table import show

import aqltelemetry
from aqltelemetry.system.extensions import VARIABLE

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
{before}
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
BARE = START.format(before="")
WORKER = START.format(before="import aiohttp.web, gunicorn.workers.base, uvloop")
MODULES = ("aqltelemetry", "prometheus_client", "opentelemetry.sdk.trace")


STARTS = {
    "import and start": (BARE, {}),
    "the same, pure Python": (BARE, {VARIABLE: "1"}),
    "in an aiohttp worker": (WORKER, {}),
    "the same, of pure Python": (WORKER, {VARIABLE: "1"}),
}


def measure(
    program: str, environment: Mapping[str, str] = MappingProxyType({})
) -> tuple[float, float]:
    """Return MiB and milliseconds."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    rss_bytes, time_s = map(float, done.stdout.split())
    return rss_bytes / (1 << 20), time_s * 1e3


def main() -> None:
    """Print one table."""
    describe("prometheus-client", "opentelemetry-sdk")
    compileall.compile_dir(Path(aqltelemetry.__file__).parent, quiet=1)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for module in MODULES:
            figures = measure(PROGRAM.format(module=module))
            found.setdefault(f"import {module}", []).append(figures)
        for name, (program, environment) in STARTS.items():
            found.setdefault(name, []).append(measure(program, environment))
    rows: list[list[str | float]] = []
    for name, pairs in found.items():
        mib, ms = zip(*pairs, strict=True)
        rows.append([name, statistics.median(mib), statistics.median(ms), min(ms)])
    columns = {"": "", "MiB": ".1f", "ms": ".0f", "least ms": ".0f"}
    show("Above a process that has imported asyncio", columns, rows, drawn="ms")


if __name__ == "__main__":
    main()
