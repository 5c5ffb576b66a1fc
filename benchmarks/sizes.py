"""How many bytes an observation takes: in each form of a file, and in each store.

The observations are ten minutes of 8 workers, at 200 requests per second each: a row for each
request, one for its first byte, one for a failure (see `_recorded_minutes.py`). Each form holds the
same rows. ClickHouse's parts are merged into one for each day, as they are in time; PostgreSQL's
size is that of its tables with their indexes, after VACUUM.

Remote write and OTLP carry no rows but points of each series and interval, so that their bytes
depend on time and hardly on the number of requests. Theirs are the bytes of the bodies of all
requests for five minutes of one worker with 2,000 requests per second, with the intervals that are
the defaults, divided by the number of observations; with a tenth of the requests, an observation
takes ten times as many. What a store makes of them is its own.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import clickhouse_connect
import numpy as np
import zstandard
from _machine import describe
from _recorded_minutes import write
from _ship_engines import free_port
from _table import show

from aqltelemetry.archive.archive_file import write_archive
from aqltelemetry.archive.csv_file import read_csv_file
from aqltelemetry.journal.format import RECORD_BYTES
from aqltelemetry.sinks import file_names
from postgres import programs, started
from shipping import ship

WORKERS = 8
MINUTES = 10
REQUESTS_PER_S = 200
BUSY_MINUTES = 5
BUSY_REQUESTS_PER_S = 2_000
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


def of_archives(directory: Path, store: Path) -> Size:
    """Return the size in two archives, since one holds at most 128 MiB of CSV."""
    store.mkdir()
    paths = sorted(directory.glob("*.csv"))
    for half in (paths[: len(paths) // 2], paths[len(paths) // 2 :]):
        named = [(path, file_names.parse(path.name)) for path in half]
        write_archive(
            str(store), [read_csv_file(str(path), name) for path, name in named if name is not None]
        )
    return Size("archive", sum(path.stat().st_size for path in store.iterdir()))


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


@contextmanager
def receiving() -> Iterator[tuple[str, list[int]]]:
    """Give the address of a server, and the sizes of the bodies that it received."""
    received: list[int] = []

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            received.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", received
        server.shutdown()


def of_aggregates(directory: Path) -> list[Size]:
    """Return what is sent to a store of aggregates."""
    found = []
    for form, url in (
        ("remote write, every 10 s", "remote-write+http://{}/api/v1/write"),
        ("OTLP, every minute", "otlp+http://{}"),
    ):
        with receiving() as (address, received):
            ship(directory, url.format(address))
            found.append(Size(form, sum(received)))
    return found


def main() -> None:
    """Print the table."""
    describe("chdb-core", "duckdb", "pyarrow")
    chance = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as root:
        directory, busy = Path(root) / "monitoring", Path(root) / "busy"
        directory.mkdir()
        busy.mkdir()
        rows = sum(
            write(directory, chance, worker, number, REQUESTS_PER_S)
            for worker in range(WORKERS)
            for number in range(MINUTES)
        )
        of_busy = sum(
            write(busy, chance, 0, number, BUSY_REQUESTS_PER_S) for number in range(BUSY_MINUTES)
        )
        sizes = [
            Size("a record of the journal", rows * RECORD_BYTES),
            *of_files(directory),
            of_archives(directory, Path(root) / "archives"),
            of_parquet(directory, Path(root) / "store"),
            of_clickhouse(directory, Path(root) / "engine"),
            of_postgresql(directory),
        ]
        aggregates = of_aggregates(busy)
    csv_bytes = dict(sizes)["CSV"] / rows
    cells = [(form, size / rows) for form, size in sizes]
    cells += [(form, size / of_busy) for form, size in aggregates]
    show(
        f"Bytes of an observation, of {rows:,}, and of {of_busy:,} that become aggregates",
        {"form": "", "bytes": ".2f", "of CSV": ".3f"},
        [(form, size, size / csv_bytes) for form, size in cells],
        drawn="bytes",
    )


if __name__ == "__main__":
    main()
