"""How fast files are shipped, compared with each engine's own import of the same files.

The files are of 8 workers, a minute each, at 2,000 requests per second. "aqltelemetry ship" is the
whole shipper with its ledger, from the search for files to the last receipt. ClickHouse's engine
(chDB) runs in the same process for both contenders; "its own" is one INSERT from its table
function `file`, which reads all files at once, into a table of the same columns, without those
that say which file a row is from; "four columns" is the same into a table of the four columns of
the files. For Parquet there is no such import: pyarrow reads the CSV files and writes them as
Parquet with its defaults. Contenders take turns; a figure is the median of the rounds.

With `--workers 32` there are 32 files, and so several shipments. ClickHouse merges parts meanwhile,
those of each contender in its own time: its table is emptied after the time is taken, which ends
the merges that still run.

Rows per second of a core are rows per second of processor time of all threads.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import clickhouse_connect
import numpy as np
from _machine import describe
from _recorded_minutes import write
from _table import show
from pyarrow import csv, parquet

from aqltelemetry.shipping.run import Job, run
from aqltelemetry.shipping.shipper import Surroundings
from aqltelemetry.shipping.target import Origin, Target

WORKERS = 8
REQUESTS_PER_S = 2_000
ROUNDS = 5
_STATES = count()
_STRUCTURE = "Timepoint Int64, Measurement Decimal(18, 9), Label LowCardinality(String), PID UInt32"
_OWN_COLUMNS = "at_ns, value_ns, label, pid"


class Contender(NamedTuple):
    """A function that imports the files and returns their rows, and one that removes these."""

    run: Callable[[], int]
    empty: Callable[[], object] = lambda: None


def ship(directory: Path, url: str) -> int:
    """Ship the files of a directory with a new ledger; return the number of rows."""
    origin = Origin("host-1", "shop", "a")
    state = str(directory / ".states" / str(next(_STATES)))
    return run(Job([str(directory)], Target(url, origin), state=state), Surroundings()).rows


def into_clickhouse(directory: Path, path: Path) -> dict[str, Contender]:
    """Return the contenders for ClickHouse."""
    client = clickhouse_connect.get_client(dsn=f"chdb://{path}")
    ship(directory, f"chdb://{path}")  # makes the tables
    client.command("CREATE TABLE own AS duration")
    client.command(
        "CREATE TABLE four (at_ns Int64, value_ns Int64, label LowCardinality(String), pid UInt32) "
        "ENGINE = MergeTree ORDER BY (label, at_ns)"
    )

    def own(table: str) -> int:
        client.command(
            f"INSERT INTO {table} ({_OWN_COLUMNS}) "
            "SELECT Timepoint, toInt64(Measurement * 1000000000), Label, PID "
            f"FROM file('{directory}/*.csv', 'CSVWithNames', '{_STRUCTURE}')"
        )
        return _rows(client, table)

    def emptied(table: str) -> Callable[[], object]:
        return lambda: client.command(f"TRUNCATE TABLE {table}")

    client.command("TRUNCATE TABLE duration")
    return {
        "aqltelemetry ship, to ClickHouse": Contender(
            lambda: ship(directory, f"chdb://{path}"), emptied("duration")
        ),
        "ClickHouse's own, the same columns": Contender(lambda: own("own"), emptied("own")),
        "ClickHouse's own, four columns": Contender(lambda: own("four"), emptied("four")),
    }


def _rows(client: Any, table: str) -> int:
    return int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])


def into_parquet(directory: Path, path: Path) -> dict[str, Contender]:
    """Return the contenders for Parquet."""

    def own() -> int:
        rows = 0
        for file in sorted(directory.glob("*.csv")):
            table = csv.read_csv(file)
            parquet.write_table(table, f"{path}.own.parquet", compression="zstd")
            rows += len(table)
        return rows

    return {
        "aqltelemetry ship, to Parquet": Contender(
            lambda: ship(directory, f"file://{path}"),
            lambda: shutil.rmtree(path, ignore_errors=True),
        ),
        "pyarrow, read_csv and write_table": Contender(own),
    }


def measure(contenders: dict[str, Contender], rows: int) -> list[list[str | float]]:
    """Return a row for each contender: rates, and the ratio to the second one."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(ROUNDS + 1):
        for name, contender in contenders.items():
            started, worked = perf_counter(), process_time()
            found = contender.run()
            times = perf_counter() - started, process_time() - worked
            contender.empty()
            if found != rows:
                sys.exit(f"{name}: {found} rows of {rows}")
            if number:  # the first round warms up
                taken[name].append(times)
    _, base, *_ = contenders
    return [
        [
            name,
            rows / statistics.median(wall for wall, _ in times) / 1e6,
            rows / statistics.median(work for _, work in times) / 1e6,
            statistics.median(
                other[1] / own[1] for own, other in zip(times, taken[base], strict=True)
            ),
        ]
        for name, times in taken.items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Ships files, and imports them by other means.")
    parser.add_argument("--workers", type=int, default=WORKERS, help="as many files")
    workers = parser.parse_args().workers
    describe("chdb-core", "clickhouse-connect", "pyarrow")
    chance = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:  # so that no disk is measured
        directory = Path(root) / "monitoring"
        directory.mkdir()
        rows = sum(write(directory, chance, at, 0, REQUESTS_PER_S) for at in range(workers))
        table = [
            *measure(into_clickhouse(directory, Path(root) / "engine"), rows),
            *measure(into_parquet(directory, Path(root) / "store"), rows),
        ]
    columns = {
        "": "",
        "M rows/s": ".2f",
        "M rows/s of a core": ".2f",
        "x its own, per core": ".2f",
    }
    show(f"Shipping {rows:,} rows in {workers} files", columns, table, drawn="x its own, per core")


if __name__ == "__main__":
    main()
