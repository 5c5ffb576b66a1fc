"""The tables in CrateDB, and the statements that fill them."""

from __future__ import annotations

from aqltelemetry.observation import ACCOUNT, CUSTOM, DURATION, RUNTIME

TABLES = (DURATION, RUNTIME, CUSTOM, ACCOUNT)
"""The tables of rows; all prefixes of samplers share the table for user-defined values."""
COLUMNS = (
    *("day", "file", "line", "at_ns", "value", "label", "route", "method", "status", "kind"),
    *("pid", "prefix", "writer", "host", "service", "instance"),
)
"""The columns that an INSERT fills, in its order."""
_TYPES = {
    "day": "TIMESTAMP WITH TIME ZONE",
    "line": "INTEGER",
    "at_ns": "BIGINT",
    "value": "DOUBLE PRECISION",
    "pid": "INTEGER",
}
LEDGER = (
    'CREATE TABLE IF NOT EXISTS "shipped" ('
    '"file" TEXT PRIMARY KEY, "rows" INTEGER, "shipment" TEXT) '
)
"""The statement that makes the list of files of which all rows are there."""
NOTE = 'INSERT INTO "shipped" ("file", "rows", "shipment") VALUES (?, ?, ?) ON CONFLICT DO NOTHING'
"""The statement that adds a file to that list."""
KNOWN = 'SELECT "file" FROM "shipped" WHERE "file" = ANY(?)'
"""The query for those of some files that are in that list."""


def table_of(prefix: str) -> str:
    """Return the table for the rows of a file prefix."""
    return prefix if prefix in TABLES else CUSTOM


def definition(table: str) -> str:
    """Return the statement that creates a table unless it exists."""
    columns = ", ".join(f'"{name}" {_TYPES.get(name, "TEXT")}' for name in COLUMNS)
    return (
        f'CREATE TABLE IF NOT EXISTS "{table}" ({columns}, '
        '"at" TIMESTAMP WITH TIME ZONE GENERATED ALWAYS AS "at_ns" / 1000000, '
        'PRIMARY KEY ("day", "file", "line")) PARTITIONED BY ("day")'
    )


def insertion(table: str) -> str:
    """Return the statement that inserts a row unless it is there."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    marks = ", ".join("?" for _ in COLUMNS)
    return f'INSERT INTO "{table}" ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING'


def removal(table: str) -> str:
    """Return the statement that removes the rows of a file, given its day and its name."""
    return f'DELETE FROM "{table}" WHERE "day" = ? AND "file" = ?'


def expiry(table: str) -> str:
    """Return the statement that removes all partitions before a day."""
    return f'DELETE FROM "{table}" WHERE "day" < ?'
