"""How many bytes an observation takes: in each form of a file, and in each store.

The observations are ten minutes of 8 workers, at 200 requests per second each: a row for each
request, one for its first byte, one for a failure (see `_recorded_minutes.py`). Each form holds the
same rows. ClickHouse's parts are merged into one for each day, as they are in time; PostgreSQL's
size is that of its tables with their indexes, after VACUUM. `--write` puts the table, and what it
means for a fleet, into docs/scale.md.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import clickhouse_connect
import numpy as np
import zstandard
from _document import put
from _document import table as as_markdown
from _fleet_arithmetic import SCALE, fleet_table, put_rates
from _machine import describe
from _recorded_minutes import write
from _ship_engines import free_port
from _table import show

from aqltelemetry.journal.format import RECORD_BYTES
from postgres import programs, started
from shipping import ship

WORKERS = 8
MINUTES = 10
REQUESTS_PER_S = 200
GZIP_LEVEL = 6
ZSTD_LEVEL = 3


class Size(NamedTuple):
    """The bytes of all rows in one form."""

    form: str
    size_bytes: int


def of_files(directory: Path) -> list[Size]:
    """Return the sizes of the published files, and of compressed ones."""
    texts = [path.read_bytes() for path in directory.glob("*.csv")]
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    return [
        Size("CSV", sum(map(len, texts))),
        Size("CSV, gzip", sum(len(gzip.compress(text, GZIP_LEVEL)) for text in texts)),
        Size("CSV, zstd", sum(len(compressor.compress(text)) for text in texts)),
    ]


def of_parquet(directory: Path, store: Path) -> Size:
    """Return the size as shipped Parquet."""
    ship(directory, f"file://{store}")
    return Size("Parquet", sum(path.stat().st_size for path in store.rglob("*.parquet")))


def of_clickhouse(directory: Path, path: Path) -> Size:
    """Return the size in ClickHouse, merged."""
    url = f"chdb://{path}"
    ship(directory, url)
    client = clickhouse_connect.get_client(dsn=url)
    client.command("OPTIMIZE TABLE duration FINAL")
    query = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'duration'"
    size = int(client.query(query).result_rows[0][0])
    client.close()
    return Size("ClickHouse", size)


def of_postgresql(directory: Path) -> Size:
    """Return the size in PostgreSQL, with its indexes."""
    for server in started(programs(), port=free_port()):
        ship(directory, f"postgresql://test@127.0.0.1:{server.port}/postgres?sslmode=disable")
        server.psql("VACUUM FULL")
        query = (
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
            "WHERE relnamespace = 'aqltelemetry'::regnamespace AND relkind = 'r'"
        )
        return Size("PostgreSQL", int(server.psql(query)))
    raise AssertionError


def main() -> None:
    """Print the table."""
    machine = describe("chdb-core", "duckdb", "pyarrow")
    chance = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "monitoring"
        directory.mkdir()
        rows = sum(
            write(directory, chance, worker, number, REQUESTS_PER_S)
            for worker in range(WORKERS)
            for number in range(MINUTES)
        )
        sizes = [
            Size("a record of the journal", rows * RECORD_BYTES),
            *of_files(directory),
            of_parquet(directory, Path(root) / "store"),
            of_clickhouse(directory, Path(root) / "engine"),
            of_postgresql(directory),
        ]
    csv_bytes = dict(sizes)["CSV"]
    cells = [(each.form, each.size_bytes / rows, each.size_bytes / csv_bytes) for each in sizes]
    title = f"Bytes of an observation, of {rows:,}"
    show(title, {"": "", "bytes": ".1f", "x CSV": ".2f"}, cells, drawn="bytes")
    if "--write" in sys.argv:
        lines = [(form, f"{size:.1f}", f"{ratio:.2f}") for form, size, ratio in cells]
        text = f"{'; '.join(machine)}.\n\n{as_markdown(('form', 'bytes', 'of CSV'), lines)}"
        put(SCALE, "sizes", text)
        put(SCALE, "fleet", fleet_table({form: round(size, 1) for form, size, _ in cells}))
        put_rates()


if __name__ == "__main__":
    main()
