"""Ships files to ClickHouse over HTTP, or into a directory that chDB, its engine, opens in process.

A shipment is one INSERT: the rows go as the CSV text that was published, and ClickHouse parses
it. All rows of a file are in one part of a table, so that the file is there as a whole or not at
all. Each part counts its files in a projection, which is asked before anything is inserted; the
deduplication token of the shipment is for an INSERT that is still running then.
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
from aqltelemetry.shipping.file_rows import RefusedFileError, check_header, count_rows, read_rows
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
    # A label is taken as it is written: no text means NULL, no space is left out.
    "format_csv_allow_single_quotes": 0,
    "input_format_csv_trim_whitespaces": 0,
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

    def _rows_of(self, table: str, names: Iterable[str]) -> dict[str, int]:
        """Return how many rows of each file are in a table, for the files that are there."""
        name_of = {tables.key(name): name for name in names}
        found = self._client.query(tables.count_of(table, name_of)).result_rows
        counts = {tables.FileKey(*key): rows for *key, rows in found}
        if counts.pop(tables.END, None) is None:
            raise Unavailable(f"{self._target}: {_CUT_OFF}")
        return {name_of[key]: rows for key, rows in counts.items()}

    def _ship(self, shipment: Shipment) -> Receipt:
        table = tables.table_of(shipment.prefix)
        names = [file.name for file in shipment.files if file_names.parse(file.name)]
        present = self._rows_of(table, names)
        refused = {
            file.name: "its name is not that of a published file"
            for file in shipment.files
            if file.name not in names
        }
        left = [file for file in shipment.files if file.name not in {*present, *refused}]
        if left:
            refused |= self._insert(table, shipment, left)
            present = self._rows_of(table, names)
            refused |= self._missing(table, shipment, {*present, *refused})
        return Receipt(sum(present.values()), refused)

    def _missing(self, table: str, shipment: Shipment, found: Collection[str]) -> dict[str, str]:
        """Return the files that are not there although their INSERTs were confirmed, and why.

        A server that crashes after it has logged a token, and before the part is there, drops all
        INSERTs with that token from then on, and confirms them. So at first this raises
        Unavailable; the shipment is sent again, after some time with another token.
        """
        missing = [each for each in shipment.files if each.name not in found and count_rows(each)]
        if missing:
            definition = self._client.query(f"SHOW CREATE TABLE {table}").result_rows
            kept = tables.kept(str(definition), (each.name for each in missing))
            missing = [each for each in missing if each.name in kept]
        if not missing:
            return {}
        shipment_id, failures = self._unconfirmed
        failures = failures + 1 if shipment_id == shipment.id else 1
        self._unconfirmed = shipment.id, failures
        if failures < _CONFIRMED_TIMES:
            raise Unavailable(f"{self._target}: it has confirmed rows, and does not have them")
        reason = "the server has confirmed its rows again and again, and does not have them"
        return {each.name: reason for each in missing}

    def _token(self, shipment_id: str) -> str:
        last, failures = self._unconfirmed
        is_other = last == shipment_id and failures >= _SAME_TOKEN_TIMES
        return f"{shipment_id}/{failures}" if is_other else shipment_id

    def _insert(
        self, table: str, shipment: Shipment, files: Sequence[ShippedFile]
    ) -> dict[str, str]:
        """Insert files, all at once if none is refused; return the refused ones and why."""
        whole, refused = _readable(files)
        token = self._token(shipment.id)
        if not whole or self._why_refused(table, whole, token) is None:
            return refused
        for file in whole:
            reason = self._why_refused(table, [file], f"{token}/{file.name}")
            if reason is not None:
                refused[file.name] = reason
        return refused

    def _why_refused(self, table: str, files: Sequence[ShippedFile], token: str) -> str | None:
        """Insert files; return the reason if they can't be parsed, which then inserts nothing."""
        from clickhouse_connect.driver.exceptions import Error  # noqa: PLC0415 - an extra

        try:
            self._insert_once(table, files, token)
        except RefusedFileError as exc:
            return str(exc)
        except Error as exc:
            if exc.code not in _DATA_ERRORS:
                raise
            return _reason(exc)
        return None

    def _insert_once(self, table: str, files: Sequence[ShippedFile], token: str) -> None:
        settings = {**_SETTINGS, "insert_deduplication_token": token}
        is_ns = table == DURATION
        if self._is_embedded:
            with _opened(files) as opened:
                source = tables.of_files(opened, is_nanoseconds=is_ns)
                statement = tables.insertion(table, opened, self._target.origin, source)
                self._client.command(statement, settings=settings)
            return
        numbered = {str(number): file for number, file in enumerate(files)}
        source = tables.of_body(is_nanoseconds=is_ns)
        statement = tables.insertion(table, numbered, self._target.origin, source)
        body = _compressed(f"{statement} FORMAT CSV\n".encode(), _numbered_rows(files))
        self._client.raw_insert(insert_block=body, settings=settings, compression="zstd")


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


def _readable(files: Iterable[ShippedFile]) -> tuple[list[ShippedFile], dict[str, str]]:
    """Return the files that can be read, and the others by name with the reason."""
    whole, refused = [], {}
    for file in files:
        try:
            check_header(file)
        except RefusedFileError as exc:
            refused[file.name] = str(exc)
        else:
            whole.append(file)
    return whole, refused


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


def _numbered_rows(files: Iterable[ShippedFile]) -> Iterator[bytes]:
    """Yield the rows of files, with the number of the file as a further field of each row.

    A row is one line, since labels contain no line ends.
    """
    for number, file in enumerate(files):
        yield read_rows(file).replace(b"\n", b",%d\n" % number)


def _compressed(statement: bytes, pieces: Iterable[bytes]) -> bytes:
    import zstandard  # noqa: PLC0415 - an extra, which comes with the client

    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
    parts = [compressor.compress(statement), *map(compressor.compress, pieces)]
    return b"".join([*parts, compressor.flush()])


def _reason(error: Exception) -> str:
    """Return the first line of an error of the client, without the statement and the version."""
    return str(error).partition("\n")[0][:_REASON_CHARACTERS]
