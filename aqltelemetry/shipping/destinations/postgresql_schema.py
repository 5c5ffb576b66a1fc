"""The schema `aqltelemetry` of a PostgreSQL or TimescaleDB database.

Rows are in partitioned tables, `duration_rows` and so on, which hold a number for what all rows
of a file have in common (`source`). Views without the suffix show all columns; PostgreSQL
leaves out the joins of columns that a query does not use. docs/reference/shipped-tables.md
describes all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from aqltelemetry.observation import ACCOUNT, CUSTOM, DURATION, RUNTIME

VERSION = 1  # as in _BASE
TABLES = (DURATION, RUNTIME, CUSTOM, ACCOUNT)
"""The tables of rows: that of each prefix; all other prefixes are in `custom`."""
SOURCE_SETTING = "aqltelemetry.source"
"""The setting of a transaction that gives the rows of a COPY their `source`."""
LOCK = 0x61716C74656C656D
"""Key of the advisory lock under which tables and partitions are made."""
_BASE = """
CREATE SCHEMA IF NOT EXISTS aqltelemetry;
SET LOCAL search_path = aqltelemetry;
CREATE TABLE format (version integer NOT NULL);
INSERT INTO format VALUES (1);
CREATE TABLE source (
    source    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefix    text NOT NULL,
    writer    text NOT NULL,
    host      text NOT NULL,
    service   text NOT NULL,
    instance  text NOT NULL,
    UNIQUE (writer, prefix, host, service, instance)
);
CREATE TABLE label (
    label   text PRIMARY KEY,
    route   text NOT NULL,
    method  text NOT NULL,
    status  text NOT NULL,
    kind    text NOT NULL
);
CREATE TABLE shipped (
    file      text PRIMARY KEY,
    source    integer NOT NULL,
    rows      bigint NOT NULL DEFAULT 0,
    shipped   timestamptz NOT NULL DEFAULT now()
);
"""
_ROWS = """
CREATE TABLE {table}_rows (
    at_ns   bigint NOT NULL,
    value   double precision NOT NULL,
    pid     integer NOT NULL,
    source  integer NOT NULL DEFAULT current_setting('{setting}')::integer,
    label   text NOT NULL
){partitioned};
CREATE INDEX {table}_rows_at_ns ON {table}_rows USING brin (at_ns);
CREATE VIEW {table} AS
SELECT timestamptz 'epoch' + r.at_ns / 1000 * interval '1 microsecond' AS "time",
       r.at_ns, r.value, r.label, r.pid,
       s.writer, s.host, s.service, s.instance{extra}
FROM {table}_rows r LEFT JOIN source s USING (source){join};
"""
_LABEL = (", l.route, l.method, l.status, l.kind", " LEFT JOIN label l USING (label)")
_PREFIX = (", s.prefix", "")
_HYPERTABLE = """
SELECT create_hypertable('{table}_rows', by_range('at_ns', 86400000000000));
SELECT set_integer_now_func('{table}_rows', 'now_ns');
"""
_NOW = """
CREATE FUNCTION now_ns() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT (extract(epoch FROM now()) * 1000000000)::bigint $$;
"""


def table_of(prefix: str) -> str:
    """Return the name of the table that the rows of a prefix are in."""
    return prefix if prefix in TABLES else CUSTOM


def statements(*, has_timescale: bool) -> Iterator[str]:
    """Yield the statements that make the schema, to be run in one transaction."""
    yield _BASE
    partitioned = "" if has_timescale else " PARTITION BY RANGE (at_ns)"
    for table in TABLES:
        extra, join = _LABEL if table == DURATION else _PREFIX if table == CUSTOM else ("", "")
        yield _ROWS.format(
            table=table, setting=SOURCE_SETTING, partitioned=partitioned, extra=extra, join=join
        )
    if has_timescale:
        yield "SET LOCAL search_path = aqltelemetry, public"
        yield _NOW
        for table in TABLES:
            yield _HYPERTABLE.format(table=table)
