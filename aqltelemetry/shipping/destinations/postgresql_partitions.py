"""The partitions of the tables of rows, one a day: made as needed, dropped when they are old."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aqltelemetry.shipping.destinations import postgresql_schema as schema
from aqltelemetry.sinks import file_names
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

_DAY_NS = 86400 * NS_PER_S
_EXPIRE_EVERY_NS = 3600 * NS_PER_S


class Partitions:
    """Makes and drops partitions by one connection, an asyncpg one.

    With TimescaleDB the extension makes them, as chunks, and drops them when it is asked to.
    `retention_days` is the age at which they are dropped; None to keep them.
    """

    def __init__(self, db: Any, retention_days: int | None, *, has_timescale: bool) -> None:
        self._db = db
        self._retention_days = retention_days
        self._has_timescale = has_timescale
        self._made: set[tuple[str, int]] = set()
        self._expired_ns: int | None = None

    async def make(self, table: str, names: Sequence[str]) -> None:
        """Make the partitions of a table that the rows of files belong to."""
        if self._has_timescale:
            return
        for day in sorted({day for name in names for day in _days(name)}):
            if (table, day) not in self._made:
                await self._make_one(table, day)
                self._made.add((table, day))

    async def expire(self) -> None:
        """Drop partitions that are too old, at most once an hour."""
        now_ns = epoch_ns()
        if self._retention_days is None:
            return
        if self._expired_ns is not None and now_ns - self._expired_ns < _EXPIRE_EVERY_NS:
            return
        self._expired_ns = now_ns
        before_ns = now_ns // _DAY_NS * _DAY_NS - self._retention_days * _DAY_NS
        for table in schema.TABLES:
            if self._has_timescale:
                query = f"SELECT drop_chunks('aqltelemetry.{table}_rows', {before_ns}::bigint)"
                await self._db.execute(query)
            else:
                await self._drop(table, before_ns)

    async def _make_one(self, table: str, day: int) -> None:
        """Make a partition; it is attached, which does not block the writers of others."""
        name = f"aqltelemetry.{_name(table, day * _DAY_NS)}"
        exists = f"SELECT to_regclass('{name}') IS NOT NULL"
        if await self._db.fetchval(exists):
            return
        async with self._db.transaction():
            await self._db.execute(f"SELECT pg_advisory_xact_lock({schema.LOCK})")
            if not await self._db.fetchval(exists):
                await self._db.execute(
                    f"CREATE TABLE {name} (LIKE aqltelemetry.{table}_rows INCLUDING DEFAULTS);"
                    f"ALTER TABLE aqltelemetry.{table}_rows ATTACH PARTITION {name} "
                    f"FOR VALUES FROM ({day * _DAY_NS}) TO ({(day + 1) * _DAY_NS})"
                )

    async def _drop(self, table: str, before_ns: int) -> None:
        query = (
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = to_regclass($1)"
        )
        for row in await self._db.fetch(query, f"aqltelemetry.{table}_rows"):
            if row["relname"] < _name(table, before_ns):
                await self._db.execute(f'DROP TABLE aqltelemetry."{row["relname"]}"')
        self._made.clear()


def _name(table: str, at_ns: int) -> str:
    return f"{table}_rows_{file_names.stamp(at_ns)[:8]}"


def _days(name: str) -> Iterator[int]:
    """Yield the days, since the epoch, that a file's rows are of."""
    parsed = file_names.parse(name)
    if parsed is not None:
        yield from range(parsed.from_ns // _DAY_NS, (parsed.to_ns - 1) // _DAY_NS + 1)
