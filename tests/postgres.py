"""A PostgreSQL server of a test: a fixture, and its client `psql`."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

_INITDB = "usr/lib/postgresql/*/bin/initdb"


class Server(NamedTuple):
    """A server that listens on a socket in `home`, and on no port unless `port` is given."""

    programs: Path
    home: Path
    port: int | None = None
    database: str = "postgres"

    @property
    def url(self) -> str:
        """The URL by the socket."""
        return f"postgresql://test@/{self.database}?host={self.home}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment by which `psql` reaches the server."""
        return {
            **os.environ,
            "PGHOST": str(self.home),
            "PGUSER": "test",
            "PGDATABASE": self.database,
            "PATH": f"{self.programs}:{os.environ['PATH']}",
        }

    def init(self) -> None:
        """Make the files of the server."""
        self._run(
            self.programs / "initdb",
            *("--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C.UTF-8"),
            *("--no-sync", "-D", self.home / "data"),
        )

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        listen = "''" if self.port is None else "127.0.0.1"
        port = "" if self.port is None else f"-p {self.port}"
        options = f"-c listen_addresses={listen} {port} -c fsync=off -k {self.home}"
        log = self.home / "log"
        self._control("-w", "-t", "90", "-l", log, "-o", options, "start")
        if self.port is not None:  # so that the URL by the socket needs no port
            for suffix in ("", ".lock"):
                name = self.home / f".s.PGSQL.5432{suffix}"
                name.unlink(missing_ok=True)
                name.symlink_to(f".s.PGSQL.{self.port}{suffix}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server, as a crash does."""
        self._control("-m", mode, "stop")

    def psql(self, sql: str) -> str:
        """Return the result of a query, its columns separated by `|`."""
        done = subprocess.run(
            ["psql", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1", "--command", sql],
            check=True,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=100,
        )
        return done.stdout.strip()

    def _control(self, *arguments: str | Path) -> None:
        self._run(self.programs / "pg_ctl", "-D", self.home / "data", *arguments)

    def _run(self, *command: str | Path) -> None:
        # The server refuses to run as root.
        user = "postgres" if os.geteuid() == 0 else None
        subprocess.run(
            command, check=True, capture_output=True, user=user, cwd=self.home, timeout=100
        )


def started(programs: Path, port: int | None = None) -> Iterator[Server]:
    """Start a server and give it; remove it in the end."""
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        os.chown(home, pwd.getpwnam("postgres").pw_uid, -1)
    server = Server(programs, home, port)
    try:
        server.init()
        server.start()
        yield server
    finally:
        if (home / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(home)


def programs() -> Path:
    """Return the directory of the server's programs; raises FileNotFoundError."""
    found = sorted(Path("/").glob(_INITDB))
    if not found:
        raise FileNotFoundError("the Debian package postgresql is not installed")
    return found[-1].parent


@pytest.fixture(scope="session")
def postgres_server(debian_package: Callable[[str, str], Path]) -> Iterator[Server]:
    """A PostgreSQL server on a socket."""
    yield from started(debian_package("postgresql", _INITDB).parent)


_numbers = itertools.count()


@pytest.fixture
def postgres(postgres_server: Server) -> Server:
    """A new database of a PostgreSQL server on a socket."""
    name = f"test_{next(_numbers)}"
    postgres_server.psql(f"CREATE DATABASE {name}")
    return postgres_server._replace(database=name)
