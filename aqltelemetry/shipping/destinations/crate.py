"""Ships files to CrateDB, by its HTTP endpoint.

CrateDB has no transactions. Each row has its file and its number there as the primary key, and is
inserted unless it is there, so that sending it again changes nothing. Rows are numbered in sorted
order, since a file that was archived meanwhile has its rows in another order. A file is in the
table of shipped files once all of its rows are there.

The endpoint is described at https://cratedb.com/docs/crate/reference/en/latest/interfaces/http.html
"""

from __future__ import annotations

import base64
import csv
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote

from aqltelemetry.errors import DestinationError, MissingExtraError
from aqltelemetry.observation import DURATION
from aqltelemetry.shipping import labels
from aqltelemetry.shipping.destination import Receipt, Shipment, ShippedFile, Unavailable
from aqltelemetry.shipping.destinations import crate_tables as tables
from aqltelemetry.shipping.destinations.http_options import tls_context
from aqltelemetry.shipping.file_rows import RefusedFileError, read_rows
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks import file_names
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

try:
    import aiohttp
except ImportError as exc:
    raise MissingExtraError("aiohttp", exc) from exc

_PORT = 4200
_BULK_ROWS = 5_000
_TIMEOUT_S = 60.0
_CONNECT_S = 10.0
_MS_PER_DAY = 86_400_000
_NS_PER_DAY = 86_400 * NS_PER_S
_EXPIRE_EVERY_NS = 3600 * NS_PER_S
_FAILED = -2
# Codes of the endpoint's table of errors: what a statement or a user may not do, and what may
# work later. Other errors of four thousand are about a row's values.
_SETUP_CODES = {4000, 4002, 4004, 4007, 4008, 4010, 4011, 4041, 4043, 4045, 40410}
_LATER_CODES = {4031, 4046, 4092, 4097}
_UNAUTHORIZED = 401
_Row: TypeAlias = list[Any]


def destination(target: Target) -> CrateDB:
    """Return the destination of a `crate:` or `crates:` URL."""
    return CrateDB(target)


class _StatementError(Exception):
    """Raised for a statement that the server answers with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code

    @property
    def is_about_values(self) -> bool:
        """Whether the same row would fail again."""
        return str(self.code).startswith("4") and self.code not in _SETUP_CODES | _LATER_CODES


class CrateDB:
    """A schema of CrateDB; see `aqltelemetry.shipping.destination.Destination`."""

    max_files = 100
    max_bytes = 16 << 20

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session: aiohttp.ClientSession | None = None
        self._expired_ns = 0

    async def open(self) -> None:
        """Connect, and make the tables that are missing."""
        if self._session is None:
            self._session = _session(self._target)
        for statement in (*map(tables.definition, tables.TABLES), tables.LEDGER):
            await self._run(statement)

    async def shipped(self, names: Sequence[str]) -> frozenset[str]:
        """Return which files are in the table of shipped files."""
        await self._run('REFRESH TABLE "shipped"')
        found = await self._run(tables.KNOWN, args=[list(names)])
        return frozenset(row[0] for row in found["rows"])

    async def ship(self, shipment: Shipment) -> Receipt:
        """Insert the rows of the files that are not there yet."""
        known = await self.shipped([file.name for file in shipment.files])
        rows, refused = 0, {}
        for file in shipment.files:
            try:
                found = _parsed(file, self._target, shipment.prefix)
                if file.name not in known:
                    await self._insert(tables.table_of(shipment.prefix), found)
                    await self._run(tables.NOTE, args=[file.name, len(found), shipment.id])
            except RefusedFileError as exc:
                refused[file.name] = str(exc)
            else:
                rows += len(found)
        await self._expire()
        return Receipt(rows, refused)

    async def close(self) -> None:
        """Disconnect."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _insert(self, table: str, rows: Sequence[_Row]) -> None:
        statement = tables.insertion(table)
        for batch in _batches(rows):
            found = await self._run(statement, bulk_args=batch)
            results = [result["rowcount"] for result in found["results"]]
            if len(results) != len(batch):
                reason = f"it answers {len(results)} results for {len(batch)} rows"
                raise DestinationError(str(self._target), reason)
            for row, count in zip(batch, results, strict=True):
                if count == _FAILED:
                    await self._insert_alone(table, row)

    async def _insert_alone(self, table: str, row: _Row) -> None:
        """Insert a row of a batch that failed, for the reason, which a batch may not give."""
        try:
            await self._statement(tables.insertion(table), args=row)
        except _StatementError as exc:
            if not exc.is_about_values:
                raise self._failure(exc) from exc
            # Only rows that a refresh has made visible are removed.
            await self._run(f'REFRESH TABLE "{table}"')
            await self._run(tables.removal(table), args=row[:2])
            raise RefusedFileError(f"row {row[2]}: {exc}") from exc

    async def _expire(self) -> None:
        """Remove partitions that are too old, at most once an hour."""
        days, now_ns = self._target.retention_days, epoch_ns()
        if days is None or now_ns - self._expired_ns < _EXPIRE_EVERY_NS:
            return
        self._expired_ns = now_ns
        for table in tables.TABLES:
            oldest = now_ns // _NS_PER_DAY - days
            await self._run(tables.expiry(table), args=[oldest * _MS_PER_DAY])

    async def _run(self, statement: str, **arguments: Sequence[Any]) -> dict[str, Any]:
        try:
            return await self._statement(statement, **arguments)
        except _StatementError as exc:
            raise self._failure(exc) from exc

    def _failure(self, error: _StatementError) -> Exception:
        if error.code in _SETUP_CODES:
            return DestinationError(str(self._target), str(error))
        return Unavailable(f"{self._target}: {error}")

    async def _statement(self, statement: str, **arguments: Sequence[Any]) -> dict[str, Any]:
        """Run a statement; raises Unavailable, DestinationError or _StatementError."""
        if self._session is None:
            raise Unavailable(f"{self._target}: not connected")
        try:
            async with self._session.post("/_sql", json={"stmt": statement, **arguments}) as answer:
                if answer.status == _UNAUTHORIZED:
                    raise DestinationError(str(self._target), "it refuses the user or the password")
                found: dict[str, Any] = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise Unavailable(f"{self._target}: {str(exc) or type(exc).__name__}") from exc
        if "error" in found:
            error = found["error"]
            raise _StatementError(int(error["code"]), str(error["message"]))
        return found


def _session(target: Target) -> aiohttp.ClientSession:
    parts = target.parts
    is_secure = parts.scheme == "crates"
    ca_file = parse_qs(parts.query).get("ca_file", [None])[0]
    context = tls_context(ca_file) if is_secure else True
    headers = {}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    if schema := unquote(parts.path.strip("/")):
        headers["Default-Schema"] = schema
    return aiohttp.ClientSession(
        f"http{'s' if is_secure else ''}://{parts.hostname}:{parts.port or _PORT}",
        headers=headers,
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S, connect=_CONNECT_S),
    )


def _parsed(file: ShippedFile, target: Target, prefix: str) -> list[_Row]:
    """Return the rows of a file as the columns of a table."""
    name = file_names.parse(file.name)
    if name is None:
        raise RefusedFileError("its name is not that of a published file")
    day = name.from_ns // _NS_PER_DAY * _MS_PER_DAY
    origin = target.origin
    end = [prefix, name.writer, origin.host, origin.service, origin.instance]
    try:
        fields = list(csv.reader(read_rows(file).decode().splitlines(), strict=True))
        fields.sort(key=_order)
        parts = _label_parts({label for _, _, label, _ in fields}, prefix)
        return [
            [day, file.name, line, int(at), _number(value), *parts[label], int(pid), *end]
            for line, (at, value, label, pid) in enumerate(fields)
        ]
    except (ValueError, csv.Error) as exc:
        raise RefusedFileError(str(exc)) from exc


def _order(fields: Sequence[str]) -> tuple[Any, ...]:
    at, value, label, pid = fields
    number = float(value)
    return label, int(at), math.isnan(number), 0.0 if math.isnan(number) else number, pid


def _label_parts(found: set[str], prefix: str) -> dict[str, tuple[str, ...]]:
    if prefix != DURATION:
        return {label: (label, "", "", "", "") for label in found}
    return {label: labels.split(label, found) for label in found}


def _number(text: str) -> float | str:
    """Return a number as JSON can hold it; the server reads the text of any other."""
    value = float(text)
    return (
        value
        if math.isfinite(value)
        else str(value).replace("inf", "Infinity").replace("nan", "NaN")
    )


def _batches(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), _BULK_ROWS):
        yield rows[start : start + _BULK_ROWS]
