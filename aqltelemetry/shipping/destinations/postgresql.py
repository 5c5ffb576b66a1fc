"""PostgreSQL and TimescaleDB: rows by COPY, each file once.

The bytes of a file go to the server as they are. The names of the files are stored in the same
transaction as their rows, under a primary key, so that a file that is sent again is left out.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from aqltelemetry.errors import DestinationError, MissingExtraError
from aqltelemetry.observation import DURATION, FIRST_BYTE
from aqltelemetry.reading import outcomes
from aqltelemetry.shipping import labels
from aqltelemetry.shipping.destination import Receipt, Shipment, ShippedFile, Unavailable
from aqltelemetry.shipping.destinations import postgresql_schema as schema
from aqltelemetry.shipping.destinations.postgresql_partitions import Partitions
from aqltelemetry.shipping.file_rows import RefusedFileError, row_pieces
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks import file_names
from aqltelemetry.system import syscalls

try:
    import asyncpg
except ImportError as exc:
    raise MissingExtraError("postgresql", exc) from exc

_CONNECT_S = 10.0
_CALL_S = 60.0
_SLOWEST_BYTES_PER_S = 200_000
_MAX_LABELS = 100_000
_MAX_SOURCES = 10_000
_COPY_OPTIONS = {"format": "csv", "columns": ("at_ns", "value", "label", "pid")}
# The field of the label, in the rows as the sink writes them.
_LABELS = re.compile(rb"^[^,]+,[^,]+,(.*),", re.MULTILINE)
_REFUSALS = ("22", "23514")  # data exceptions; a row that is in no partition
_UNAVAILABLE = ("08", "25P03", "40", "53", "55P03", "57")
_TLS_FILES = {"sslrootcert", "sslcert", "sslkey", "sslcrl"}
_SETTINGS = {
    # A server that does not hear of the end of a connection would keep its locks.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "60000",
    "lock_timeout": "30000",
    "search_path": "aqltelemetry, public",
}


def destination(target: Target) -> PostgreSQL:
    """Return the destination of a URL such as `postgresql://user@host:5432/database`."""
    return PostgreSQL(target)


class _Content(NamedTuple):
    """What was seen of files while they were sent."""

    rows: Counter[str]
    labels: set[bytes]


class PostgreSQL:
    """Stores rows in the schema `aqltelemetry` of a database.

    TLS is set by the options of the URL, as libpq's: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`.
    """

    max_files = 200
    max_bytes = 64 << 20

    def __init__(self, target: Target) -> None:
        self._target = target
        self._db: Any = None
        self._sources: dict[tuple[str, str], int] = {}
        self._labels: set[str] = set()
        self._partitions: Partitions | None = None

    async def open(self) -> None:
        """Connect, and make the schema if it is missing; raises as `Destination.open`."""
        _check_files(self._target)
        name = f"aqltelemetry ship {self._target.shipper}".strip()
        with _failures(self._target):
            async with asyncio.timeout(_CALL_S):
                self._db = await asyncpg.connect(
                    self._target.url,
                    timeout=_CONNECT_S,
                    statement_cache_size=0,
                    server_settings={**_SETTINGS, "application_name": name},
                )
                await self._end_others(name)
                await self._check_schema()
                await self._load_labels()
        self._sources.clear()

    async def shipped(self, names: Sequence[str]) -> frozenset[str]:
        """Return which files are there."""
        with _failures(self._target):
            async with asyncio.timeout(_CALL_S):
                query = "SELECT file FROM shipped WHERE file = ANY($1::text[])"
                return frozenset(row["file"] for row in await self._db.fetch(query, list(names)))

    async def ship(self, shipment: Shipment) -> Receipt:
        """Store the rows of a shipment, and which files it has, in one transaction."""
        partitions, names = self._partitions, [file.name for file in shipment.files]
        if partitions is None:
            raise Unavailable("it is not connected")
        size = sum(_size(file) for file in shipment.files)
        with _failures(self._target):
            async with asyncio.timeout(_CALL_S + size / _SLOWEST_BYTES_PER_S):
                await partitions.make(schema.table_of(shipment.prefix), names)
                await self._make_sources(shipment)
                try:
                    receipt = await self._store(shipment)
                except (asyncpg.PostgresError, RefusedFileError) as exc:
                    if not _is_refusal(exc):
                        raise
                    receipt = await self._store_one_by_one(shipment)
                await partitions.expire()
                return receipt

    async def check(self, rows: Mapping[str, int]) -> Sequence[str]:
        """Compare the numbers of rows: of each file in the ledger, of each writer in the tables."""
        with _failures(self._target):
            query = "SELECT file, source, rows FROM shipped WHERE file = ANY($1::text[])"
            found = await self._db.fetch(query, list(rows))
            stored = {row["file"]: row["rows"] for row in found}
            differences = [
                f"{name} has {rows[name]:,} rows here, and {number:,} there"
                for name, number in stored.items()
                if number != rows[name]
            ]
            for source in sorted({row["source"] for row in found}):
                differences += await self._check_source(source)
            return differences

    async def _check_source(self, source: int) -> Sequence[str]:
        """Compare the rows of a writer and prefix with the sum of its files."""
        row = await self._db.fetchrow("SELECT prefix, writer FROM source WHERE source = $1", source)
        table = f"{schema.table_of(row['prefix'])}_rows"
        query = (
            f"SELECT (SELECT count(*) FROM {table} WHERE source = $1) AS found, "  # noqa: S608
            "(SELECT coalesce(sum(rows), 0)::bigint FROM shipped WHERE source = $1) AS wanted"
        )
        numbers = await self._db.fetchrow(query, source)
        found, wanted = numbers["found"], numbers["wanted"]
        # Of a partition that was dropped, only the ledger is left.
        if found == wanted or (found < wanted and self._target.retention_days is not None):
            return []
        of = f"{row['prefix']} of the writer {row['writer']}"
        return [f"the table has {found:,} rows of {of}, and its files {wanted:,}"]

    async def close(self) -> None:
        """Disconnect."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(Exception):
                await db.close(timeout=2)
            db.terminate()

    async def _end_others(self, name: str) -> None:
        """End earlier connections of this shipper, which the server may not know to be closed."""
        if self._target.shipper:
            await self._db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = $1 AND usename = current_user "
                "AND pid != pg_backend_pid()",
                name,
            )

    async def _check_schema(self) -> None:
        query = "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"
        has_timescale = await self._db.fetchval(query) is not None
        self._partitions = Partitions(
            self._db, self._target.retention_days, has_timescale=has_timescale
        )
        exists = "SELECT to_regclass('aqltelemetry.format') IS NOT NULL"
        if not await self._db.fetchval(exists):
            async with self._db.transaction():
                await self._db.execute(f"SELECT pg_advisory_xact_lock({schema.LOCK})")
                if not await self._db.fetchval(exists):
                    for statement in schema.statements(has_timescale=has_timescale):
                        await self._db.execute(statement)
        version = await self._db.fetchval("SELECT version FROM aqltelemetry.format")
        if version != schema.VERSION:
            rule = f"its schema aqltelemetry is of version {version}, not {schema.VERSION}"
            raise DestinationError(str(self._target), rule)

    async def _load_labels(self) -> None:
        rows = await self._db.fetch("SELECT label FROM label LIMIT $1", _MAX_LABELS)
        self._labels = {row["label"] for row in rows}

    async def _store(self, shipment: Shipment) -> Receipt:
        content = _Content(Counter(), set())
        async with self._db.transaction():
            names = [file.name for file in shipment.files]
            new = await self._claim(shipment.prefix, names)
            groups = itertools.groupby(
                (file for file in shipment.files if file.name in new),
                key=lambda file: file_names.writer(file.name),
            )
            for writer, files in groups:
                await self._copy(shipment.prefix, writer, list(files), content)
            await self._finish(content)
            query = "SELECT sum(rows)::bigint FROM shipped WHERE file = ANY($1::text[])"
            rows = await self._db.fetchval(query, names)
        self._remember(content.labels)
        return Receipt(rows or 0)

    async def _store_one_by_one(self, shipment: Shipment) -> Receipt:
        """Store each file of a shipment, except those that are refused, in one transaction."""
        refused: dict[str, str] = {}
        rows = 0
        async with self._db.transaction():
            for file in shipment.files:
                one = Shipment(shipment.id, shipment.prefix, [file])
                try:
                    rows += (await self._store(one)).rows
                except (asyncpg.PostgresError, RefusedFileError) as exc:
                    if not _is_refusal(exc):
                        raise
                    refused[file.name] = _one_line(exc)
        return Receipt(rows, refused)

    async def _claim(self, prefix: str, names: Sequence[str]) -> Collection[str]:
        """Note files as shipped; return those that were not."""
        sources = [self._sources[prefix, file_names.writer(name)] for name in names]
        query = (
            "INSERT INTO shipped (file, source) SELECT * FROM unnest($1::text[], $2::integer[]) "
            "ON CONFLICT DO NOTHING RETURNING file"
        )
        return {row["file"] for row in await self._db.fetch(query, list(names), sources)}

    async def _make_sources(self, shipment: Shipment) -> None:
        """Make the rows of `source` that the files of a shipment refer to."""
        for writer in {file_names.writer(file.name) for file in shipment.files}:
            if (shipment.prefix, writer) not in self._sources:
                if len(self._sources) > _MAX_SOURCES:
                    self._sources.clear()
                source = await self._make_source(shipment.prefix, writer)
                self._sources[shipment.prefix, writer] = source

    async def _make_source(self, prefix: str, writer: str) -> int:
        origin = self._target.origin
        values = (prefix, writer, origin.host, origin.service, origin.instance)
        await self._db.execute(
            "INSERT INTO source (prefix, writer, host, service, instance) "
            "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            *values,
        )
        query = (
            "SELECT source FROM source WHERE (prefix, writer, host, service, instance) "
            "= ($1, $2, $3, $4, $5)"
        )
        return int(await self._db.fetchval(query, *values))

    async def _copy(
        self, prefix: str, writer: str, files: Sequence[ShippedFile], content: _Content
    ) -> None:
        """Store the rows of files of one writer, which have to be new."""
        source = str(self._sources[prefix, writer])
        await self._db.execute("SELECT set_config($1, $2, true)", schema.SOURCE_SETTING, source)
        before = content.rows.total()
        status = await self._db.copy_to_table(
            f"{schema.table_of(prefix)}_rows",
            source=_sent(files, content, with_labels=prefix == DURATION),
            **_COPY_OPTIONS,
        )
        stored, sent = int(status.split()[-1]), content.rows.total() - before
        if stored != sent:  # a label with a line end, which no published file has
            raise RefusedFileError(f"{stored} rows were stored of {sent}")

    async def _finish(self, content: _Content) -> None:
        """Store the number of rows of each file, and new labels."""
        await self._db.execute(
            "UPDATE shipped SET rows = new.rows FROM unnest($1::text[], $2::bigint[]) "
            "AS new (file, rows) WHERE shipped.file = new.file",
            list(content.rows.keys()),
            list(content.rows.values()),
        )
        parts = self._new_parts(content.labels)
        if parts:
            columns = [list(column) for column in zip(*sorted(parts.values()), strict=True)]
            await self._db.execute(
                "INSERT INTO label SELECT * FROM "
                "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
                "ON CONFLICT (label) DO UPDATE SET route = excluded.route, "
                "method = excluded.method, status = excluded.status, kind = excluded.kind "
                "WHERE label.route != excluded.route",
                *columns,
            )

    def _new_parts(self, found: Collection[bytes]) -> Mapping[str, labels.LabelParts]:
        """Return the parts of new labels, and of known ones of which the base is new."""
        new = {text for text in map(_unquoted, found) if text not in self._labels}
        if not new:
            return {}
        every = new | self._labels
        words = (*outcomes.OUTCOMES, FIRST_BYTE)
        again = {f"{label} {word}" for label in new for word in words} & self._labels
        return {label: labels.split(label, every) for label in new | again}

    def _remember(self, found: Collection[bytes]) -> None:
        """Keep the labels of a transaction that was committed."""
        if len(self._labels) > _MAX_LABELS:
            self._labels.clear()
        self._labels.update(map(_unquoted, found))


async def _sent(
    files: Sequence[ShippedFile], content: _Content, *, with_labels: bool
) -> AsyncIterator[bytes]:
    """Yield the rows of files, and note their number and their labels."""
    for file in files:
        content.rows[file.name] += 0
        for piece in row_pieces(file):
            content.rows[file.name] += piece.count(b"\n")
            if with_labels:
                content.labels.update(_LABELS.findall(piece))
            yield piece


def _check_files(target: Target) -> None:
    """Raise DestinationError if a file that an option of TLS names can't be read."""
    for option, path in parse_qsl(target.parts.query):
        if option in _TLS_FILES and not os.access(path, os.R_OK):
            raise DestinationError(str(target), f"{option}={path} can't be read")


def _unquoted(field: bytes) -> str:
    text = field.decode(errors="replace")
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        return text[1:-1].replace('""', '"')
    return text


def _size(file: ShippedFile) -> int:
    try:
        return syscalls.look_at(file.path).st_size
    except OSError:
        return 0


def _is_refusal(exc: Exception) -> bool:
    """Return whether an error is about the content of a file."""
    return isinstance(exc, RefusedFileError) or str(exc.sqlstate).startswith(_REFUSALS)  # type: ignore[attr-defined]


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())


@contextmanager
def _failures(target: Target) -> Iterator[None]:
    """Convert errors of the connection and the server into those of a destination."""
    try:
        yield
    except asyncpg.PostgresError as exc:
        if str(exc.sqlstate).startswith(_UNAVAILABLE):
            raise Unavailable(_one_line(exc)) from None
        raise DestinationError(str(target), _one_line(exc)) from None
    except asyncpg.ClientConfigurationError as exc:  # of the URL's options, or of files for TLS
        raise DestinationError(str(target), _one_line(exc)) from None
    except TimeoutError:
        raise Unavailable("it does not answer in time") from None
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        raise Unavailable(_one_line(exc) or type(exc).__name__) from None
