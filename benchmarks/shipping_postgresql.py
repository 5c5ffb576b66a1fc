"""How fast files are shipped into PostgreSQL, compared with psql.

Both put the same files into the same tables of one server of this machine, which forces nothing to
the disk: partitions of a day with a BRIN index. The contenders take turns, each into empty tables.
psql gets all files as copy commands, in transactions of 64 MiB as shipments are. "aqltelemetry
ship" is the shipper with its ledger, labels and the server's list of files. Its time includes the
connection, and not the start of the command, which is a line of its own. A figure is the median of
the rounds, a ratio the median of the ratios of the rounds: psql's time by the contender's.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from _machine import describe
from _ship_engines import PostgreSQL, postgresql
from _table import show

from aqltelemetry.shipping.destinations.postgresql import destination
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.shipper import Shipper, Surroundings
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks.file_names import FileName, enclosing

ROUNDS = 5
FILES = 12
FILE_ROWS = 150_000
ROUTES = 20
START_NS = 1_795_489_012_671_577_403
WRITER = "0123456789abcdef"
COLUMNS = "(at_ns, value, label, pid)"
OWN, OURS = "psql \\copy", "aqltelemetry ship"


def publish(directory: Path) -> None:
    """Write files as a busy recording does: rows grouped by label, segment by segment."""
    dice = random.Random(1)
    at_ns = START_NS
    for number in range(1, FILES + 1):
        lines = []
        first_ns = at_ns
        for row in range(FILE_ROWS):
            at_ns += 6_667
            route = row * ROUTES * 5 // FILE_ROWS % ROUTES
            lines.append(f"{at_ns},{dice.random():.9f},/orders/{{id}}/{route} [GET],4123\n")
        name = FileName("duration", *enclosing(first_ns, at_ns), 4123, WRITER, number, number, 0)
        text = "Timepoint,Measurement,Label,PID\n" + "".join(lines)
        (directory / str(name)).write_text(text)


def ship(directory: Path, engine: PostgreSQL) -> None:
    """Ship all files."""

    async def work(ledger: Ledger) -> None:
        target = Target(engine.url(engine.port), shipper=ledger.shipper)
        shipper = Shipper([str(directory)], ledger, destination(target), Surroundings())
        await shipper.ship()
        await shipper.close()

    with (
        tempfile.TemporaryDirectory() as state,
        Ledger(f"{state}/ledger.sqlite", "benchmark") as ledger,
    ):
        asyncio.run(work(ledger))


def copy(directory: Path, engine: PostgreSQL) -> None:
    """Import all files by psql."""
    lines = ["SET aqltelemetry.source = '1'; SET search_path = aqltelemetry;"]
    size = 0
    for path in sorted(directory.glob("*.csv")):
        if not size:
            lines.append("BEGIN;")
        lines.append(f"\\copy duration_rows {COLUMNS} FROM '{path}' WITH (FORMAT csv, HEADER true)")
        size += path.stat().st_size
        if size >= 64 << 20:
            lines.append("COMMIT;")
            size = 0
    if size:
        lines.append("COMMIT;")
    subprocess.run(
        ["psql", "--quiet", "--set", "ON_ERROR_STOP=1"],
        input="\n".join(lines) + "\n",
        check=True,
        text=True,
        env=engine.server.environment,
    )


def start(_: Path, __: PostgreSQL) -> None:
    """Start the command and end it."""
    command = [sys.executable, "-m", "aqltelemetry", "ship", "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _emptied(engine: PostgreSQL) -> Iterator[None]:
    """Leave the tables empty, and see that all rows were there."""
    yield
    count = engine.server.psql("SELECT count(*) FROM aqltelemetry.duration_rows")
    if int(count) != FILES * FILE_ROWS:
        raise SystemExit(f"{count} rows instead of {FILES * FILE_ROWS}")
    engine.server.psql("TRUNCATE aqltelemetry.duration_rows, aqltelemetry.shipped; CHECKPOINT")


def _measured(
    work: Callable[[Path, PostgreSQL], None], directory: Path, engine: PostgreSQL
) -> float:
    begin = perf_counter()
    work(directory, engine)
    return perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    describe()
    times: dict[str, list[float]] = {OWN: [], OURS: [], "the start of the command": []}
    with tempfile.TemporaryDirectory(prefix="shipping-") as path, postgresql() as engine:
        if not isinstance(engine, PostgreSQL):
            raise TypeError(engine)
        directory = Path(path)
        publish(directory)
        ship(directory, engine)  # makes the tables
        with _emptied(engine):
            pass
        for number in range(arguments.rounds):
            pair = [(OWN, copy), (OURS, ship)]
            for name, work in pair if number % 2 else reversed(pair):
                with _emptied(engine):
                    times[name].append(_measured(work, directory, engine))
            times["the start of the command"].append(_measured(start, directory, engine))
    rows = FILES * FILE_ROWS
    ratio = statistics.median(own / ours for own, ours in zip(times[OWN], times[OURS], strict=True))
    show(
        f"Shipping {rows:,} rows in {FILES} files into {engine.name}",
        {"contender": "", "seconds": ".2f", "million rows/s": ".2f", "ratio": ".2f"},
        [
            (OWN, _median(times[OWN]), rows / _median(times[OWN]) / 1e6, 1.0),
            (OURS, _median(times[OURS]), rows / _median(times[OURS]) / 1e6, ratio),
            ("the start of the command", _median(times["the start of the command"]), None, None),
        ],
        drawn="ratio",
    )


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
