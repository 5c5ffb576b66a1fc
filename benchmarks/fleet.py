"""Ships the files of a simulated fleet into real stores at the same time, and compares.

Each host has a directory, 8 workers and a shipper, which is a process of its own. The workers'
files are those of `_recorded_minutes.py`, published one minute after the other without waiting,
so that minutes pass in seconds. All shippers send to one store. In the end the number and the sum
of all durations there are compared with those that were published.

    benchmarks/fleet.py --write
    benchmarks/fleet.py --hosts 2 --minutes 1 --to parquet
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from _document import put
from _document import table as as_markdown
from _fleet_arithmetic import SCALE
from _machine import describe
from _recorded_minutes import write
from _ship_engines import ENGINES, Engine

WORKERS = 8
REQUESTS_PER_S = 10
STORES = ("clickhouse", "parquet", "postgresql")
HANG_S = 240


@dataclass(frozen=True)
class Result:
    """What arrived in a store: rows, and the sum of the durations in nanoseconds."""

    store: str
    writers: int
    files: int
    published: int
    arrived: int
    difference_of_the_sums_ns: int
    seconds: float
    seconds_after_the_last_file: float

    @property
    def is_wrong(self) -> bool:
        """Whether something is missing, or there twice."""
        return self.published != self.arrived or self.difference_of_the_sums_ns != 0


@contextmanager
def shippers(directories: Sequence[Path], url: str) -> Iterator[None]:
    """Run a shipper for each host."""
    environ = {**os.environ, "AQLTELEMETRY_SHIP_TO": url}
    command = [sys.executable, "-m", "aqltelemetry", "ship", "--follow", "--interval", "0.5s"]
    running = [
        subprocess.Popen(
            [*command, "--host", directory.name, "--service", "shop", str(directory)],
            env=environ,
            stderr=subprocess.DEVNULL,
        )
        for directory in directories
    ]
    try:
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(HANG_S)


def simulate(engine: Engine, hosts: int, minutes: int) -> Result:
    """Publish the files of a fleet while they are shipped."""
    chance = np.random.default_rng(1)
    rows = total_ns = 0
    with tempfile.TemporaryDirectory(prefix="fleet-") as root:
        directories = [Path(root) / f"host-{number}" for number in range(hosts)]
        for directory in directories:
            directory.mkdir()
        started = monotonic()
        with shippers(directories, engine.url(engine.port)):
            for number in range(minutes):
                for host, directory in enumerate(directories):
                    for worker in range(host * WORKERS, (host + 1) * WORKERS):
                        rows += write(directory, chance, worker, number, REQUESTS_PER_S)
            last = monotonic()
            count, ended = _until_arrived(engine, rows)
        total_ns = sum(map(_sum_ns, Path(root).glob("*/*.csv")))
        arrived, arrived_ns = engine.durations()
    return Result(
        engine.name,
        hosts * WORKERS,
        hosts * WORKERS * minutes,
        rows,
        max(count, arrived),
        arrived_ns - total_ns,
        ended - started,
        ended - last,
    )


def _until_arrived(engine: Engine, rows: int) -> tuple[int, float]:
    deadline = monotonic() + HANG_S
    while True:
        try:
            count, _ = engine.durations()
        except (OSError, subprocess.CalledProcessError):  # there are no tables yet
            count = 0
        if count >= rows or monotonic() > deadline:
            return count, monotonic()
        sleep(0.5)


def _sum_ns(path: Path) -> int:
    """Return the sum of the durations of a file, which have nine decimals."""
    lines = path.read_text().splitlines()[1:]
    return sum(int(line.split(",", 2)[1].replace(".", "")) for line in lines)


def render(machine: Sequence[str], results: Sequence[Result]) -> str:
    """Return what was found as Markdown, a column for each store."""
    names = [name for name in asdict(results[0]) if name != "store"]
    lines = [
        [
            name.replace("_", " "),
            *(
                f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
                for value in (getattr(result, name) for result in results)
            ),
        ]
        for name in names
    ]
    table = as_markdown(["", *(result.store for result in results)], lines)
    return f"{'; '.join(machine)}.\n\n{table}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, default=25)
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--to", action="append", choices=[*ENGINES], help="default: three")
    parser.add_argument("--write", action="store_true", help="the table in docs/scale.md")
    arguments = parser.parse_args()
    machine = describe("chdb-core", "duckdb")
    results = []
    for name in arguments.to or STORES:
        with ENGINES[name]() as engine:
            results.append(simulate(engine, arguments.hosts, arguments.minutes))
        print(json.dumps(asdict(results[-1])))
    if arguments.write:
        put(SCALE, "simulated", render(machine, results))
    sys.exit(any(result.is_wrong for result in results))


if __name__ == "__main__":
    main()
