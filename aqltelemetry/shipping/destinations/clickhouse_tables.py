"""The tables in ClickHouse, and the statements that fill them and count their files.

Rows are sorted by label, minute and writer, so that all columns but time and value are runs of
equal values. `day` is that of the file, so that no file is in two partitions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT, CUSTOM, DURATION, RUNTIME, UNMATCHED
from aqltelemetry.shipping.destination import ShippedFile
from aqltelemetry.shipping.file_rows import FirstRow
from aqltelemetry.shipping.target import Origin
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

TABLES = (DURATION, RUNTIME, CUSTOM, ACCOUNT)
"""The tables; all prefixes of samplers share the table for user-defined values."""
_TIME = "Timepoint Int64"
_REST = "Label LowCardinality(String), PID UInt32"
# Nine decimals are nanoseconds exactly; as integers they take a third less space.
_MEASUREMENT: Mapping[bool, str] = {
    True: "Measurement Decimal(18, 9)",
    False: "Measurement Float64",
}
_VALUE: Mapping[bool, str] = {
    True: "value_ns Int64 CODEC(T64, ZSTD(1)),\n    value Float64 ALIAS value_ns / 1e9",
    False: "value Float64 CODEC(ZSTD(1))",
}
# As `shipping.labels` splits a label, except that a last word is always taken for an outcome.
# Functions of the label alone are evaluated once for each of its values; with two columns, or in
# `multiIf`, they would be evaluated for each row.
_KINDS = "(?: (?:websocket|events))?"
_OUTCOME = "(?: (?:[45]xx|disconnect|failed|ttfb))?"
_METHOD = r"[^\\[\\] ]+"
_ROUTE = (
    rf"(?s)^(?:(\\S.*) \\[{_METHOD}\\]{_KINDS}{_OUTCOME}|({UNMATCHED}){_KINDS}{_OUTCOME}"
    rf"|(.*?){_OUTCOME})$"
)
_KIND = rf"(?s)^(?:(?:\\S.* \\[{_METHOD}(\\])|({UNMATCHED}))(?: (websocket|events))?{_OUTCOME}|.*)$"
_LABEL_PARTS = rf"""method LowCardinality(String)
        DEFAULT extract(label, '^\\S.* \\[({_METHOD})\\]{_KINDS}{_OUTCOME}$'),
    route LowCardinality(String) DEFAULT replaceRegexpOne(label, '{_ROUTE}', '\\1\\2\\3'),
    status LowCardinality(String) DEFAULT extract(label, ' ([45]xx|disconnect|failed|ttfb)$'),
    kind LowCardinality(String) DEFAULT transform(
        replaceRegexpOne(label, '{_KIND}', '\\1\\2 \\3'),
        [' ', '] websocket', '] events', '{UNMATCHED} websocket', '{UNMATCHED} events'],
        ['block', 'websocket', 'events', 'websocket', 'events'], 'request'),
    """
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class FileKey(NamedTuple):
    """What identifies a file within a table."""

    prefix: str
    writer: str
    segment: int
    part: int


_SORTED_BY = "label, intDiv(at_ns, 60000000000), writer, at_ns"
_ENGINE = "ENGINE = MergeTree"
_TTL = re.compile(r"TTL day \+ toIntervalDay\((\d+)\)")
_NS_PER_MINUTE = 60 * NS_PER_S
_NS_PER_DAY = 86_400 * NS_PER_S
END = FileKey("", "", 0, 0)
"""The key of a row that shows that a result is not just empty."""


def kept(definition: str, names: Iterable[str]) -> set[str]:
    """Return the files whose rows a table must have once their INSERT is confirmed.

    Not those that its TTL may remove at once; none if the table is replicated, since another
    replica may have them, or if it is defined in another way than `definition` does it.
    """
    ttl = _TTL.search(definition)
    if _ENGINE not in definition or ("TTL" in definition and ttl is None):
        return set()
    # The server's day may be another one.
    oldest = 0 if ttl is None else epoch_ns() // _NS_PER_DAY - int(ttl[1]) + 2
    return {name for name in names if _day_of(name) >= oldest}


def _day_of(name: str) -> int:
    """Return the day of a file, since the epoch, from its published name."""
    found = file_names.parse(name)
    return 0 if found is None else found.from_ns // _NS_PER_DAY


def table_of(prefix: str) -> str:
    """Return the table for the rows of a file prefix."""
    return prefix if prefix in TABLES else CUSTOM


def key(name: str) -> FileKey:
    """Return what identifies a file, from the name under which it was published."""
    return _key(_parsed(name))


def columns(table: str) -> list[str]:
    """Return the columns that an INSERT fills, in its order."""
    value = "value_ns" if table == DURATION else "value"
    return [
        *("at_ns", value, "label", "pid", "prefix", "writer", "segment", "part", "day"),
        *("host", "service", "instance"),
    ]


def definition(table: str, retention_days: int | None) -> str:
    """Return the statement that creates a table unless it exists."""
    ttl = "" if retention_days is None else f"\nTTL day + INTERVAL {retention_days} DAY"
    return f"""CREATE TABLE IF NOT EXISTS {table} (
    at_ns Int64 CODEC(Delta, ZSTD(1)),
    {_VALUE[table == DURATION]},
    label LowCardinality(String),
    {_LABEL_PARTS if table == DURATION else ""}pid UInt32,
    writer LowCardinality(String),
    host LowCardinality(String),
    service LowCardinality(String),
    instance LowCardinality(String),
    prefix LowCardinality(String),
    segment UInt32,
    part UInt16,
    day Date,
    at DateTime64(9, 'UTC') ALIAS fromUnixTimestamp64Nano(at_ns, 'UTC'),
    INDEX at_range at_ns TYPE minmax GRANULARITY 1
) {_ENGINE}
PARTITION BY day
ORDER BY ({_SORTED_BY}){ttl}
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1"""


def count_of(table: str, names: Iterable[str]) -> str:
    """Return the query that counts the rows of those of some files that are in a table.

    It reads the rows of the times in the names. Its result has a row with the key `END`, also if
    no file is there.
    """
    files = [_parsed(name) for name in names]
    from_ns, to_ns = min(each.from_ns for each in files), max(each.to_ns for each in files)
    return _count(table, files, f"WHERE at_ns >= {from_ns} AND at_ns < {to_ns}")


def count_of_first(table: str, rows: Mapping[str, FirstRow]) -> str:
    """Return the query that counts the first rows of those of some files that are in a table.

    It finds them by the primary key. Its result has a row with the key `END` as well.
    """
    files = {name: _parsed(name) for name in rows}
    wanted = ", ".join(
        f"({_text(row.label)}, {row.at_ns // _NS_PER_MINUTE}, {_text(files[name].writer)}, "
        f"{row.at_ns})"
        for name, row in rows.items()
    )
    times = ", ".join(str(row.at_ns) for row in rows.values())
    # The other columns are then read of a few rows only.
    condition = f"PREWHERE at_ns IN ({times}) WHERE ({_SORTED_BY}) IN ({wanted})"
    return _count(table, files.values(), condition)


def _count(table: str, files: Collection[FileName], condition: str) -> str:
    keys = "prefix, writer, segment, part"
    wanted = ", ".join(
        f"({_text(each.prefix)}, {_text(each.writer)}, {each.first}, {each.part})" for each in files
    )
    days = ", ".join(sorted({_text(str(_day(each))) for each in files}))
    return (
        f"SELECT {keys}, count() FROM {table} {condition} AND day IN ({days}) "
        f"AND ({keys}) IN ({wanted}) GROUP BY {keys} "
        f"UNION ALL SELECT {_text(END.prefix)}, {_text(END.writer)}, {END.segment}, {END.part}, 0"
    )


def _parsed(name: str) -> FileName:
    found = file_names.parse(name)
    if found is None:
        raise ValueError(name)
    return found


def _key(file: FileName) -> FileKey:
    return FileKey(file.prefix, file.writer, file.first, file.part)


def _day(file: FileName) -> date:
    return datetime.fromtimestamp(file.from_ns // NS_PER_S, UTC).date()


def of_files(files: Mapping[str, ShippedFile], *, is_nanoseconds: bool) -> str:
    """Return the source of rows that are in open files, by the numbers of their descriptors."""
    by_compression: dict[str, list[str]] = {}
    for number, file in files.items():
        suffix = next((each for each in _COMPRESSIONS if file.path.endswith(each)), "")
        by_compression.setdefault(_COMPRESSIONS.get(suffix, "none"), []).append(number)
    structure = _text(f"{_TIME}, {_MEASUREMENT[is_nanoseconds]}, {_REST}")
    parts = (
        "SELECT *, _file AS file FROM file("
        f"'/proc/self/fd/{{{','.join(numbers)}}}', 'CSVWithNames', {structure}, '{compression}')"
        for compression, numbers in by_compression.items()
    )
    return f"({' UNION ALL '.join(parts)})"


def of_body(*, is_nanoseconds: bool) -> str:
    """Return the source of rows that are sent, with the number of the file at their end."""
    structure = f"{_TIME}, {_MEASUREMENT[is_nanoseconds]}, {_REST}, file LowCardinality(String)"
    return f"input({_text(structure)})"


def insertion(
    table: str,
    files: Mapping[str, ShippedFile],
    origin: Origin,
    source: str,
    settings: Mapping[str, int | str] | None = None,
) -> str:
    """Return the statement that inserts the rows of a source.

    `files` are by the texts in the column `file` of the source. `settings` are of this statement.
    """
    known = {number: file_names.parse(file.name) for number, file in files.items()}
    found = {number: each for number, each in known.items() if each is not None}

    def by_file(values: Iterable[str], otherwise: str) -> str:
        numbers = ", ".join(map(_text, found))
        return f"transform(file, [{numbers}], [{', '.join(values)}], {otherwise})"

    days = (_text(str(_day(each))) for each in found.values())
    selected = [
        "Timepoint",
        "toInt64(Measurement * 1000000000)" if table == DURATION else "Measurement",
        "Label",
        "PID",
        by_file((_text(each.prefix) for each in found.values()), "''"),
        by_file((_text(each.writer) for each in found.values()), "''"),
        by_file((str(each.first) for each in found.values()), "0"),
        by_file((str(each.part) for each in found.values()), "0"),
        f"toDate({by_file(days, _text('1970-01-01'))})",
        *map(_text, (origin.host, origin.service, origin.instance)),
    ]
    given = ", ".join(f"{name} = {_text(str(value))}" for name, value in (settings or {}).items())
    return (
        f"INSERT INTO {table} ({', '.join(columns(table))}) {given and f'SETTINGS {given} '}"
        f"SELECT {', '.join(selected)} FROM {source}"
    )


def _text(value: str) -> str:
    """Return a text as a literal."""
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"
