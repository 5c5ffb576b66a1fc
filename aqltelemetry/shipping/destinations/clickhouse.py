"""Ships files to ClickHouse over HTTP, or into a directory that chDB, its engine, opens in process.

A shipment is one INSERT: the rows go as the CSV text that was published, and ClickHouse parses
it. All rows of a file are in one part of a table, so that the file is there as a whole or not at
all. Before anything is inserted, and after it, the first row of each file is looked for, by the
primary key; what then is in doubt is counted by file. The deduplication token of the shipment is
for an INSERT that is still running when the shipment is sent again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from aqltelemetry.errors import DestinationError, MissingExtraError
from aqltelemetry.observation import DURATION
from aqltelemetry.shipping.destination import Receipt, Shipment, ShippedFile, Unavailable
from aqltelemetry.shipping.destinations import clickhouse_tables as tables
from aqltelemetry.shipping.file_rows import FirstRow, RefusedFileError, first_row, read_rows
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks import file_names

_CHDB = "chdb"
_MAX_FILES = 200
_MAX_BYTES = 128 << 20
_ZSTD_LEVEL = 1
_REASON_CHARACTERS = 300
# An INSERT of one block is one part for each day, complete or not there.
_SETTINGS: Mapping[str, int | str] = {
    "min_insert_block_size_rows": 100_000_000,
    "min_insert_block_size_bytes": 10 << 30,
    "max_insert_block_size": 100_000_000,
    "max_insert_threads": 1,
    "insert_deduplicate": 1,
    # A label is taken as it is written. One with spaces at its ends is in quotes, and keeps them.
    "format_csv_allow_single_quotes": 0,
    "input_format_null_as_default": 0,
}
# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_DATA_ERRORS = {6, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 354, 407, 561}
_SETUP_ERRORS = {
    *(10, 16, 36, 43, 44, 46, 47, 48, 57, 60, 62, 80, 81, 115, 164, 192, 193, 194, 291, 344, 392),
    *(472, 497, 511, 516),
}
# The client may take an answer that ends in its head for one with an empty result.
_CUT_OFF = "its answer was cut off"
# How often an INSERT may be confirmed without its rows: with the same token, and at all.
_SAME_TOKEN_TIMES, _CONFIRMED_TIMES = 2, 5
_T = TypeVar("_T")


def destination(target: Target) -> ClickHouse:
    """Return the destination of a `clickhouse:`, `clickhouses:` or `chdb:` URL."""
    try:
        import clickhouse_connect  # noqa: F401, PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("clickhouse", exc) from exc
    return ClickHouse(target)


class ClickHouse:
    """A database of ClickHouse; see `aqltelemetry.shipping.destination.Destination`."""

    max_files = _MAX_FILES
    max_bytes = _MAX_BYTES

    def __init__(self, target: Target) -> None:
        self._target = target
        self._is_embedded = target.parts.scheme == _CHDB
        self._client: Any = None
        self._unconfirmed = ("", 0)

    async def open(self) -> None:
        """Connect, and create the tables that are missing."""
        await self._call(self._open)

    async def shipped(self, names: Sequence[str]) -> frozenset[str]:
        """Return which files are in the tables."""
        return frozenset(await self._call(partial(self._counts, names)))

    async def ship(self, shipment: Shipment) -> Receipt:
        """Insert the files of a shipment that are not there yet."""
        return await self._call(partial(self._ship, shipment))

    async def check(self, rows: Mapping[str, int]) -> Sequence[str]:
        """Compare the number of rows of each file with what the tables have."""
        there = await self._call(partial(self._counts, rows))
        return [
            f"{name} has {rows[name]:,} rows here, and {count:,} there"
            for name, count in there.items()
            if count != rows[name]
        ]

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await asyncio.to_thread(client.close)

    async def _call(self, function: Callable[[], _T]) -> _T:
        """Call a function on a thread, and convert the errors of the client."""
        from clickhouse_connect.driver.exceptions import Error  # noqa: PLC0415 - an extra

        try:
            return await asyncio.to_thread(function)
        except Error as exc:
            if exc.code in _SETUP_ERRORS:
                raise DestinationError(str(self._target), _reason(exc)) from exc
            raise Unavailable(f"{self._target}: {_reason(exc)}") from exc
        except OSError as exc:
            raise Unavailable(f"{self._target}: {exc}") from exc

    def _open(self) -> None:
        if self._client is None:
            self._client = _connect(self._target)
        for table in tables.TABLES:
            self._client.command(tables.definition(table, self._target.retention_days))
            found = self._client.query(f"DESCRIBE TABLE {table}").result_rows
            if not found:
                raise Unavailable(f"{self._target}: {_CUT_OFF}")
            missing = set(tables.columns(table)) - {row[0] for row in found}
            if missing:
                columns = ", ".join(sorted(missing))
                raise DestinationError(
                    str(self._target), f"the table {table!r} exists without the columns {columns}"
                )

    def _counts(self, names: Iterable[str]) -> dict[str, int]:
        """Return how many rows of each file there are, for the files that are there."""
        by_table: dict[str, list[str]] = {}
        for name in names:
            parsed = file_names.parse(name)
            if parsed is not None:
                by_table.setdefault(tables.table_of(parsed.prefix), []).append(name)
        found: dict[str, int] = {}
        for table, wanted in by_table.items():
            found |= self._rows_of(table, wanted)
        return found

    def _rows_of(self, table: str, names: Collection[str]) -> dict[str, int]:
        """Return how many rows of each file are in a table, for the files that are there."""
        return self._found(names, tables.count_of(table, names)) if names else {}

    def _found(self, names: Iterable[str], query: str) -> dict[str, int]:
        """Return the numbers that a query finds for files."""
        name_of = {tables.key(name): name for name in names}
        found = self._client.query(query).result_rows
        counts = {tables.FileKey(*key): rows for *key, rows in found}
        if counts.pop(tables.END, None) is None:
            raise Unavailable(f"{self._target}: {_CUT_OFF}")
        return {name_of[key]: rows for key, rows in counts.items()}

    def _present(self, table: str, rows: Mapping[str, FirstRow | None]) -> set[str]:
        """Return which files are in a table; a file is there if its first row is."""
        known = {name: row for name, row in rows.items() if row is not None}
        found = self._found(known, tables.count_of_first(table, known)) if known else {}
        return {*found, *self._rows_of(table, rows.keys() - known.keys())}

    def _ship(self, shipment: Shipment) -> Receipt:
        table = tables.table_of(shipment.prefix)
        rows, refused = _first_rows(shipment.files)
        present = self._present(table, rows)
        refused = {name: reason for name, reason in refused.items() if name not in present}
        done = {*present, *refused}
        left = [file for file in shipment.files if file.name not in done]
        count = 0
        if left:
            count, not_parsed = self._insert(table, shipment, left)
            refused |= not_parsed
            sent = {file.name: rows[file.name] for file in left if file.name not in refused}
            refused |= self._missing(table, shipment.id, sent)
        if present or refused:
            count = sum(self._rows_of(table, rows.keys() - refused.keys()).values())
        return Receipt(count, refused)

    def _missing(
        self, table: str, shipment_id: str, sent: Mapping[str, FirstRow | None]
    ) -> dict[str, str]:
        """Return the files that are not there although their INSERTs were confirmed, and why.

        A server that crashes after it has logged a token, and before the part is there, drops all
        INSERTs with that token from then on, and confirms them. So at first this raises
        Unavailable; the shipment is sent again, after some time with another token.
        """
        present = self._present(table, sent)
        missing = {name for name, row in sent.items() if row is not None and name not in present}
        if missing:
            missing -= self._rows_of(table, missing).keys()
        if missing:
            definition = self._client.query(f"SHOW CREATE TABLE {table}").result_rows
            missing = tables.kept(str(definition), missing)
        if not missing:
            return {}
        last, failures = self._unconfirmed
        failures = failures + 1 if last == shipment_id else 1
        self._unconfirmed = shipment_id, failures
        if failures < _CONFIRMED_TIMES:
            raise Unavailable(f"{self._target}: it has confirmed rows, and does not have them")
        reason = "the server has confirmed its rows again and again, and does not have them"
        return dict.fromkeys(missing, reason)

    def _token(self, shipment_id: str) -> str:
        last, failures = self._unconfirmed
        is_other = last == shipment_id and failures >= _SAME_TOKEN_TIMES
        return f"{shipment_id}/{failures}" if is_other else shipment_id

    def _insert(
        self, table: str, shipment: Shipment, files: Sequence[ShippedFile]
    ) -> tuple[int, dict[str, str]]:
        """Insert files, all at once if none is refused.

        Returns the number of rows, and the refused files and why.
        """
        token = self._token(shipment.id)
        rows, reason = self._try_to_insert(table, files, token)
        if reason is None:
            return rows, {}
        refused = {}
        for file in files:
            _, reason = self._try_to_insert(table, [file], f"{token}/{file.name}")
            if reason is not None:
                refused[file.name] = reason
        return 0, refused

    def _try_to_insert(
        self, table: str, files: Sequence[ShippedFile], token: str
    ) -> tuple[int, str | None]:
        """Insert files; return their rows, and the reason if they are refused, all of them."""
        from clickhouse_connect.driver.exceptions import Error  # noqa: PLC0415 - an extra

        try:
            return self._insert_once(table, files, token), None
        except RefusedFileError as exc:
            return 0, str(exc)
        except Error as exc:
            if exc.code not in _DATA_ERRORS:
                raise
            return 0, _reason(exc)

    def _inserted_rows(self) -> int:
        """Return how many rows this process has inserted; counting them in a file takes longer."""
        query = "SELECT value FROM system.events WHERE event = 'InsertedRows'"
        return sum(row[0] for row in self._client.query(query).result_rows)

    def _insert_once(self, table: str, files: Sequence[ShippedFile], token: str) -> int:
        """Insert files by one statement, and return the number of their rows."""
        settings = {**_SETTINGS, "insert_deduplication_token": token}
        is_ns = table == DURATION
        if self._is_embedded:
            with _opened(files) as opened:
                source = tables.of_files(opened, is_nanoseconds=is_ns)
                statement = tables.insertion(table, opened, self._target.origin, source, settings)
                before = self._inserted_rows()
                self._client.command(statement)
                return self._inserted_rows() - before
        numbered = {str(number): file for number, file in enumerate(files)}
        source = tables.of_body(is_nanoseconds=is_ns)
        statement = tables.insertion(table, numbered, self._target.origin, source)
        body, rows = _compressed(f"{statement} FORMAT CSV\n".encode(), files)
        self._client.raw_insert(insert_block=body, settings=settings, compression="zstd")
        return rows


def _connect(target: Target) -> Any:
    import clickhouse_connect  # noqa: PLC0415 - an extra

    options: dict[str, Any] = (
        {}
        if target.parts.scheme == _CHDB
        else {
            "secure": target.parts.scheme == "clickhouses",
            # Requests of one client do not overlap; a session would only expire.
            "autogenerate_session_id": False,
        }
    )
    return clickhouse_connect.get_client(dsn=target.url, **options)


def _first_rows(
    files: Iterable[ShippedFile],
) -> tuple[dict[str, FirstRow | None], dict[str, str]]:
    """Return the first rows of files by name, and the files that can't be read with the reason."""
    rows: dict[str, FirstRow | None] = {}
    refused: dict[str, str] = {}
    for file in files:
        if file_names.parse(file.name) is None:
            refused[file.name] = "its name is not that of a published file"
            continue
        try:
            row = first_row(file)
            # ClickHouse leaves out spaces at the ends of a text without quotes, as others write it.
            rows[file.name] = None if row and row.label != row.label.strip() else row
        except RefusedFileError as exc:
            rows[file.name] = None
            refused[file.name] = str(exc)
    return rows, refused


@contextmanager
def _opened(files: Sequence[ShippedFile]) -> Iterator[Mapping[str, ShippedFile]]:
    """Open files, and yield them by the numbers of their descriptors."""
    with ExitStack() as stack:
        found = {}
        for file in files:
            fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            found[str(fd)] = file
        yield found


def _compressed(statement: bytes, files: Iterable[ShippedFile]) -> tuple[bytes, int]:
    """Return a statement and the rows of files, and how many these are.

    Each row has the number of its file as a further field. A row is one line, since labels
    contain no line ends.
    """
    import zstandard  # noqa: PLC0415 - an extra, which comes with the client

    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
    parts, rows = [compressor.compress(statement)], 0
    for number, file in enumerate(files):
        text, field = read_rows(file), b",%d" % number
        numbered = text.replace(b"\n", field + b"\n")
        rows += (len(numbered) - len(text)) // len(field)
        parts.append(compressor.compress(numbered))
    return b"".join([*parts, compressor.flush()]), rows


def _reason(error: Exception) -> str:
    """Return the first line of an error of the client, without the statement and the version."""
    return str(error).partition("\n")[0][:_REASON_CHARACTERS]
