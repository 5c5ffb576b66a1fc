"""The stores that `ship_storm.py` and `shipping.py` start, fill and read.

To add one, write a class with the methods of `Engine` and list it in `ENGINES`.
"""

from __future__ import annotations

import csv
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from postgres import Server, programs, started

Rows = Counter[tuple[int, float, str, int]]
"""How often each row occurs: timepoint, value, label and PID."""


class Engine(Protocol):
    """A store that runs on this machine."""

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

    def rows(self, prefix: str) -> Rows:
        """Return the rows of a prefix that it has."""
        ...


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


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def postgresql() -> Iterator[Engine]:
    """Run PostgreSQL."""
    for server in started(programs(), port=free_port()):
        yield PostgreSQL(server)


ENGINES = {"postgresql": postgresql}
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
