"""The stores that `ship_storm.py` and `shipping.py` start, fill and read.

To add one, write a class with the methods of `Engine` and list it in `ENGINES`.
"""

from __future__ import annotations

import csv
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlencode

import duckdb

from aqltelemetry.shipping.destinations import clickhouse_tables

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import clickhouse_server
from postgres import Server, programs, started

Rows = Counter[tuple[int, float, str, int]]
"""How often each row occurs: timepoint, value, label and PID."""

_START_S = 60
_READ = """
import sys
from chdb.session import Session
print(Session(sys.argv[1]).query(sys.argv[2], "CSV"), end="")
"""


class Store(Protocol):
    """A store that runs on this machine, which a storm can crash."""

    @property
    def name(self) -> str:
        """Name and version, for the report."""
        ...

    @property
    def port(self) -> int | None:
        """The TCP port, before which a proxy may be put; None if it has none."""
        ...

    def url(self, port: int | None) -> str:
        """Return the URL of the destination, by a port, which may be that of a proxy."""
        ...

    def crash(self) -> None:
        """End it as a crash does."""
        ...

    def restart(self) -> None:
        """Start it again after a crash."""
        ...

    def has(self, shipment: str, prefix: str, names: Sequence[str]) -> bool | None:
        """Return whether it has all files of a shipment; None if it can't be asked meanwhile."""
        ...

    def parts(self) -> frozenset[str]:
        """Return its parts on the disk; none of a server, which a proxy watches."""
        ...


class Engine(Store, Protocol):
    """A store that has the rows."""

    def rows(self, prefix: str) -> Rows:
        """Return the rows of a prefix that it has."""
        ...

    def durations(self) -> tuple[int, int]:
        """Return the number of durations that it has, and their sum in nanoseconds."""
        ...


_Started = TypeVar("_Started", bound=Store)


class PostgreSQL:
    """PostgreSQL of this machine's Debian package."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = "PostgreSQL " + server.psql("SHOW server_version").split()[0]
        self.port = server.port

    def url(self, port: int | None) -> str:
        """Return the URL by TCP."""
        return f"postgresql://test@127.0.0.1:{port}/postgres?sslmode=disable"

    def crash(self) -> None:
        """Abort all server processes."""
        self.server.stop("immediate")

    def restart(self) -> None:
        """Start it again; it recovers from its log."""
        self.server.start()

    def rows(self, prefix: str) -> Rows:
        """Return the rows of a view."""
        text = self.server.psql(
            f"COPY (SELECT at_ns, value, label, pid FROM aqltelemetry.{prefix}) TO STDOUT CSV"
        )
        return counted(text.splitlines())

    def has(self, _shipment: str, _prefix: str, names: Sequence[str]) -> bool:
        """Ask the ledger of the database."""
        if not self.server.psql("SELECT to_regclass('aqltelemetry.shipped')"):
            return False
        wanted = ", ".join(f"'{name}'" for name in names)
        query = f"SELECT count(*) FROM aqltelemetry.shipped WHERE file IN ({wanted})"
        return int(self.server.psql(query)) == len(names)

    def parts(self) -> frozenset[str]:
        """Return no part."""
        return frozenset()

    def durations(self) -> tuple[int, int]:
        """Return the number and the sum of the durations of a view."""
        query = "SELECT count(*), coalesce(sum(round(value * 1e9)::bigint), 0) FROM "
        count, total = self.server.psql(f"{query} aqltelemetry.duration").strip().split("|")
        return int(count), int(total)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def postgresql() -> Iterator[Engine]:
    """Run PostgreSQL."""
    for server in started(programs(), port=free_port()):
        yield PostgreSQL(server)


class ClickHouse:
    """The engine of ClickHouse (chDB) behind HTTP, in a process of its own."""

    def __init__(self, path: Path) -> None:
        self.name = f"ClickHouse {version('chdb-core')} by HTTP"
        self.port = free_port()
        self._path = path
        self._server: subprocess.Popen[bytes] | None = None

    def url(self, port: int | None) -> str:
        """Return the URL by TCP."""
        return f"clickhouse://127.0.0.1:{port}/default"

    def crash(self) -> None:
        """Kill the server."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def restart(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, clickhouse_server.__file__, str(self._path), str(self.port)]
        self._server = subprocess.Popen(command)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self._ask("SELECT 1")
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def rows(self, prefix: str) -> Rows:
        """Return the rows of a table."""
        return counted(self._ask(f"SELECT at_ns, value, label, pid FROM {prefix} FORMAT CSV"))

    def has(self, _shipment: str, prefix: str, names: Sequence[str]) -> bool:
        """Ask the table for files."""
        query = clickhouse_tables.count_of(prefix, names)
        try:
            return len(self._ask(query)) == len(names) + 1  # and a last row of no file
        except urllib.error.HTTPError:  # the tables are not made yet
            return False

    def parts(self) -> frozenset[str]:
        """Return no part."""
        return frozenset()

    def durations(self) -> tuple[int, int]:
        """Return the number and the sum of the durations of the table."""
        (line,) = self._ask("SELECT count(), sum(value_ns) FROM duration FORMAT CSV")
        count, total = line.split(",")
        return int(count), int(total)

    def _ask(self, query: str) -> list[str]:
        url = f"http://127.0.0.1:{self.port}/?{urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=60) as response:
            return str(response.read().decode()).splitlines()


class ChDB:
    """The engine of ClickHouse in the shipper itself, which is killed with it."""

    port = None

    def __init__(self, path: Path) -> None:
        self.name = f"ClickHouse {version('chdb-core')} in process"
        self._path = path

    def url(self, _port: int | None) -> str:
        """Return the URL of the directory."""
        return f"chdb://{self._path}"

    def crash(self) -> None:
        """Do nothing: a kill of the shipper is a crash of the engine."""

    restart = crash

    def rows(self, prefix: str) -> Rows:
        """Return the rows of a table, which another process reads: it can open one directory."""
        return counted(self._ask(f"SELECT at_ns, value, label, pid FROM {prefix}"))

    def has(self, _shipment: str, _prefix: str, _names: Sequence[str]) -> None:
        """Return None: only one process at a time can open the directory."""

    def parts(self) -> frozenset[str]:
        """Return the parts of the tables that an INSERT has made."""
        return frozenset(map(str, self._path.glob("store/*/*/????????_*_*_0")))

    def durations(self) -> tuple[int, int]:
        """Return the number and the sum of the durations of the table."""
        (line,) = self._ask("SELECT count(), sum(value_ns) FROM duration")
        count, total = line.split(",")
        return int(count), int(total)

    def _ask(self, query: str) -> list[str]:
        command = [sys.executable, "-c", _READ, str(self._path), query]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()


class Parquet:
    """Parquet in a directory, read by DuckDB."""

    port = None

    def __init__(self, path: Path) -> None:
        self.name = f"Parquet, read by DuckDB {version('duckdb')}"
        self._path = path

    def url(self, _port: int | None) -> str:
        """Return the URL of the directory."""
        return f"file://{self._path}"

    def crash(self) -> None:
        """Do nothing: there is no server."""

    restart = crash

    def rows(self, prefix: str) -> Rows:
        """Return the rows of all objects of a prefix."""
        value = "value_ns / 1e9" if prefix == "duration" else "value"
        source = f"read_parquet('{self._path}/{prefix}/**/*.parquet')"
        with duckdb.connect() as connection:
            query = f"SELECT at_ns, {value}, label, pid FROM {source}"
            return Counter(connection.execute(query).fetchall())

    def has(self, shipment: str, prefix: str, _names: Sequence[str]) -> bool:
        """Look for an object of the shipment."""
        return any(self._path.glob(f"{prefix}/*/*/*.{shipment}.parquet"))

    def parts(self) -> frozenset[str]:
        """Return the objects."""
        return frozenset(map(str, self._path.glob("*/*/*/*.parquet")))

    def durations(self) -> tuple[int, int]:
        """Return the number and the sum of the durations of all objects."""
        files = [str(path) for path in self._path.glob("duration/**/*.parquet")]
        if not files:
            return 0, 0
        with duckdb.connect() as connection:
            query = "SELECT count(*), sum(value_ns) FROM read_parquet(?)"
            ((count, total),) = connection.execute(query, [files]).fetchall()
            return int(count), int(total)


@contextmanager
def in_new_directory(make: Callable[[Path], _Started]) -> Iterator[_Started]:
    """Start a store in a new directory; end it and remove that in the end."""
    with tempfile.TemporaryDirectory(prefix="ship-store-") as path:
        store = make(Path(path) / "data")
        store.restart()
        try:
            yield store
        finally:
            store.crash()


ENGINES: dict[str, Callable[[], AbstractContextManager[Engine]]] = {
    "chdb": partial(in_new_directory, ChDB),
    "clickhouse": partial(in_new_directory, ClickHouse),
    "parquet": partial(in_new_directory, Parquet),
    "postgresql": postgresql,
}
"""Each makes an engine and removes it in the end, by the name that `--to` gives."""


def counted(lines: list[str]) -> Rows:
    """Count the rows of CSV text without a header."""
    return Counter((int(a), float(v), label, int(p)) for a, v, label, p in csv.reader(lines))


def published(directory: Path, prefix: str) -> Rows:
    """Count the rows of the files of a prefix."""
    found: Rows = Counter()
    for path in directory.glob(f"{prefix}.*.csv"):
        found.update(counted(path.read_text().splitlines()[1:]))
    return found
