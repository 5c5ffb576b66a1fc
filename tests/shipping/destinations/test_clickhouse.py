from __future__ import annotations

import asyncio
import gzip
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aqltelemetry.errors import DestinationError
from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.shipping import labels
from aqltelemetry.shipping.destination import Receipt, ShippedFile, Unavailable
from aqltelemetry.shipping.destinations.clickhouse import ClickHouse, destination
from aqltelemetry.shipping.destinations.clickhouse_tables import TABLES, count_of_first
from aqltelemetry.shipping.file_rows import first_row
from aqltelemetry.shipping.target import Origin, Target
from clickhouse_server import ClickHouseServer, clickhouse_server
from shipments import LABELS, START_NS, Row, publish, rows_of, shipment

pytestmark = pytest.mark.system
_SERVER = os.environ.get("AQLTELEMETRY_TEST_CLICKHOUSE")
_ROWS = "SELECT at_ns, value, label, toInt64(pid), writer FROM {} ORDER BY ALL"
_NS_PER_DAY = 86_400 * 10**9
_ORIGIN = Origin("h", "it's", "\\1")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """Start the engine, which a process can open in one directory only."""
    with clickhouse_server(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture
def server(engine: ClickHouseServer) -> ClickHouseServer:
    """Return the server without tables."""
    for table in TABLES:
        engine.run(f"DROP TABLE IF EXISTS {table} SYNC".encode(), {})
    return engine


@pytest.fixture(params=["HTTP", "in process"])
def store(request: pytest.FixtureRequest, server: ClickHouseServer) -> Iterator[ClickHouse]:
    """Connect to the engine behind HTTP, or in process."""
    url = server.url if request.param == "HTTP" else f"chdb://{server.path}"
    made = destination(Target(url, _ORIGIN))
    asyncio.run(made.open())
    yield made
    asyncio.run(made.close())


def _query(store: ClickHouse, text: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in store._client.query(text).result_rows]


def test_every_row_arrives_with_its_value_its_label_and_its_origin(
    store: ClickHouse, tmp_path: Path
) -> None:
    files = [publish(tmp_path, number) for number in range(3)]
    receipt = asyncio.run(store.ship(shipment(files)))
    assert (receipt.rows, receipt.refused) == (300, {})
    assert _query(store, _ROWS.format("duration")) == rows_of(files)
    origins = "SELECT DISTINCT host, service, instance, prefix, toString(day) FROM duration"
    assert _query(store, origins) == [("h", "it's", "\\1", "duration", "2026-11-24")]
    exact = "SELECT count() FROM duration WHERE toUnixTimestamp64Nano(at) = at_ns"
    assert _query(store, exact) == [(300,)]


def test_prefixes_have_tables_and_those_of_samplers_share_one(
    store: ClickHouse, tmp_path: Path
) -> None:
    rows: list[Row] = [(START_NS, text, "x", 1) for text in ("nan", "inf", "-inf", "5e-324", "7")]
    for prefix in ("runtime", "custom", "account", "pool"):
        files = [publish(tmp_path, 0, rows, prefix=prefix)]
        assert asyncio.run(store.ship(shipment(files, prefix))).rows == 5
        assert asyncio.run(store.shipped([files[0].name])) == {files[0].name}
    values = "SELECT toString(value) FROM {} ORDER BY ALL"
    for table in ("runtime", "account"):
        assert _query(store, values.format(table)) == sorted((row[1],) for row in rows)
    counts = "SELECT prefix, count() FROM custom GROUP BY prefix ORDER BY prefix"
    assert _query(store, counts) == [("custom", 5), ("pool", 5)]


def test_a_shipment_that_is_sent_again_changes_nothing(store: ClickHouse, tmp_path: Path) -> None:
    sent = shipment([publish(tmp_path, number) for number in range(2)])
    receipts = [asyncio.run(store.ship(sent)) for _ in range(3)]
    assert [receipt.rows for receipt in receipts] == [200] * 3
    assert _query(store, "SELECT count() FROM duration") == [(200,)]


def test_files_that_arrived_are_known_by_name(store: ClickHouse, tmp_path: Path) -> None:
    files = [publish(tmp_path, number) for number in range(3)]
    asyncio.run(store.ship(shipment(files[:2])))
    names = [file.name for file in files]
    assert asyncio.run(store.shipped([*names, "another.csv"])) == set(names[:2])


def test_a_check_compares_the_rows_of_each_file(store: ClickHouse, tmp_path: Path) -> None:
    files = [publish(tmp_path, number) for number in range(2)]
    asyncio.run(store.ship(shipment(files)))
    rows = {files[0].name: 100, files[1].name: 101, "another.csv": 5}
    differences = [f"{files[1].name} has 101 rows here, and 100 there"]
    assert asyncio.run(store.check(rows)) == differences


def test_a_shipment_over_midnight_is_complete_or_not_there_file_by_file(
    store: ClickHouse, tmp_path: Path
) -> None:
    midnight_ns = START_NS // _NS_PER_DAY * _NS_PER_DAY
    files = [publish(tmp_path, at, start_ns=midnight_ns - 2 * 10**9) for at in range(4)]
    half = replace(shipment(files), files=files[:2])
    asyncio.run(store.ship(half))
    assert asyncio.run(store.ship(shipment(files))).rows == 400
    assert _query(store, _ROWS.format("duration")) == rows_of(files)
    assert len(_query(store, "SELECT DISTINCT day FROM duration")) == 2


def test_a_file_that_can_not_be_read_is_refused_and_the_others_arrive(
    store: ClickHouse, tmp_path: Path
) -> None:
    files = [publish(tmp_path, number) for number in range(4)]
    Path(files[1].path).write_text("Timepoint,Measurement,Label,PID\n1,x,y,z\n")
    Path(files[2].path).write_text("a,b\n1,2\n")
    other = ShippedFile("another.csv", files[0].path)
    receipt = asyncio.run(store.ship(shipment([*files, other])))
    assert receipt.rows == 200
    assert set(receipt.refused) == {files[1].name, files[2].name, other.name}
    assert all("INSERT" not in reason for reason in receipt.refused.values())
    assert _query(store, _ROWS.format("duration")) == rows_of([files[0], files[3]])


def test_compressed_files_are_shipped_with_others_and_a_damaged_one_is_refused(
    store: ClickHouse, tmp_path: Path
) -> None:
    files = [publish(tmp_path, number) for number in range(3)]
    packed = Path(f"{files[1].path}.gz")
    packed.write_bytes(gzip.compress(Path(files[1].path).read_bytes()))
    cut = Path(f"{files[2].path}.gz")
    cut.write_bytes(gzip.compress(Path(files[2].path).read_bytes())[:-500])
    sent = [files[0], *(file._replace(path=f"{file.path}.gz") for file in files[1:])]
    receipt = asyncio.run(store.ship(shipment(sent)))
    assert receipt.rows == 200
    assert set(receipt.refused) == {files[2].name}
    assert _query(store, _ROWS.format("duration")) == rows_of(files[:2])


def test_labels_are_split_into_route_method_status_and_kind(
    store: ClickHouse, tmp_path: Path
) -> None:
    expected = [
        ("/a/{id} [GET]", "/a/{id}", "GET", "", "request"),
        ("/a/{id} [GET] 5xx", "/a/{id}", "GET", "5xx", "request"),
        ("/a/{id} [GET] ttfb", "/a/{id}", "GET", "ttfb", "request"),
        ("/ws [GET] websocket", "/ws", "GET", "", "websocket"),
        ("/ws [GET] websocket 4xx", "/ws", "GET", "4xx", "websocket"),
        ("/e [GET] events disconnect", "/e", "GET", "disconnect", "events"),
        ("unmatched", "unmatched", "", "", "request"),
        ("unmatched 4xx", "unmatched", "", "4xx", "request"),
        ("unmatched websocket", "unmatched", "", "", "websocket"),
        ("db query", "db query", "", "", "block"),
        ("db query failed", "db query", "", "failed", "block"),
        ("a [b] c", "a [b] c", "", "", "block"),
        ("[GET]", "[GET]", "", "", "block"),
    ]
    known = {label for label, *_ in expected} | {"/e [GET] events", "/ws [GET] websocket"}
    assert [labels.split(label, known) for label, *_ in expected] == expected
    rows: list[Row] = [(START_NS, "0.1", label, 1) for label, *_ in expected]
    asyncio.run(store.ship(shipment([publish(tmp_path, 0, rows)])))
    found = _query(store, "SELECT label, route, method, status, kind FROM duration")
    assert sorted(found) == sorted(expected)


def test_an_insert_is_one_part_of_a_day_however_many_rows_it_has(
    store: ClickHouse, tmp_path: Path
) -> None:
    """The engine cuts larger ones into blocks of a million rows, each a part, by default."""
    files = [publish(tmp_path, number) for number in range(2)]
    text = Path(files[1].path).read_bytes()
    head, _, row = text.partition(b"\n")
    Path(files[1].path).write_bytes(head + b"\n" + row.splitlines(keepends=True)[0] * 1_200_000)
    assert asyncio.run(store.ship(shipment(files))).rows == 1_200_100
    parts = "SELECT rows, level FROM system.parts WHERE active AND table = 'duration'"
    assert _query(store, parts) == [(1_200_100, 0)]


def test_rows_older_than_the_retention_are_removed_by_the_engine(
    server: ClickHouseServer, tmp_path: Path
) -> None:
    made = destination(Target(server.url, retention_days=30))

    async def main() -> None:
        await made.open()
        old_ns = START_NS - 400 * _NS_PER_DAY
        files = [publish(tmp_path, 0, start_ns=old_ns), publish(tmp_path, 1)]
        await made.ship(shipment(files))
        made._client.command("OPTIMIZE TABLE duration FINAL")
        assert _query(made, _ROWS.format("duration")) == rows_of(files[1:])
        await made.close()

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_connection_that_is_lost_leaves_rows_once(
    server: ClickHouseServer, tmp_path: Path, fault: str
) -> None:
    made = destination(Target(server.url))
    sent = shipment([publish(tmp_path, 0)])

    async def main() -> list[tuple[Any, ...]]:
        await made.open()
        server.faults = [fault] * 3
        with pytest.raises(Unavailable):
            await made.ship(sent)
        server.faults = []
        assert (await made.ship(sent)).rows == 100
        found = _query(made, "SELECT count() FROM duration")
        await made.close()
        return found

    assert asyncio.run(main()) == [(100,)]


async def test_an_answer_that_ends_in_its_head_is_no_empty_result(
    server: ClickHouseServer, tmp_path: Path
) -> None:
    made = destination(Target(server.url))
    sent = shipment([publish(tmp_path, 0)])
    await made.open()
    try:
        for verb in ("SELECT", "DESCRIBE"):
            server.cut_off = verb
            with pytest.raises(Unavailable, match="was cut off"):
                await (made.ship(sent) if verb == "SELECT" else made.open())
    finally:
        server.cut_off = ""
    assert (await made.ship(sent)).rows == 100
    await made.close()


def test_a_file_that_is_there_is_found_by_its_first_row_whatever_its_label_is(
    store: ClickHouse, tmp_path: Path
) -> None:
    names = (*LABELS, "it's", "a,b", "\\", '""')
    rows: list[list[Row]] = [[(START_NS + at, "1", text, 1)] for at, text in enumerate(names)]
    files = [publish(tmp_path, at, rows[at]) for at in range(len(names))]
    assert asyncio.run(store.ship(shipment(files))).rows == len(names)
    first = {file.name: row for file in files if (row := first_row(file))}
    assert len(first) == len(names)
    assert store._found(first, count_of_first("duration", first)) == dict.fromkeys(first, 1)


def test_the_first_rows_are_found_by_the_primary_key(store: ClickHouse, tmp_path: Path) -> None:
    rows: list[Row] = [(START_NS + at, "1", f"label {at // 1000}", 1) for at in range(100_000)]
    file = publish(tmp_path, 0, rows)
    asyncio.run(store.ship(shipment([file])))
    first = first_row(file)
    assert first is not None
    plan = f"EXPLAIN indexes = 1 {count_of_first('duration', {file.name: first})}"
    (read,) = re.findall(r"PrimaryKey.*?Granules: (\d+)/1[23]\b", str(_query(store, plan)))
    assert int(read) == 1


@pytest.mark.parametrize("label", [" x ", "\t", "x "])
def test_a_file_whose_first_label_begins_or_ends_with_a_space_is_there_once(
    store: ClickHouse, tmp_path: Path, label: str
) -> None:
    files = [publish(tmp_path, at, [(START_NS, "1", label, 1)]) for at in range(2)]
    without_quotes = Path(files[1].path)  # as another program may write it
    without_quotes.write_text(without_quotes.read_text().replace('"', ""))
    asyncio.run(store.ship(shipment(files[:1])))
    assert [asyncio.run(store.ship(shipment(files))).rows for _ in range(2)] == [2, 2]
    assert _query(store, "SELECT count() FROM duration") == [(2,)]


def test_a_label_keeps_the_spaces_at_its_ends(store: ClickHouse, tmp_path: Path) -> None:
    names = [" x", "x ", " x ", " ", "x"]
    file = publish(tmp_path, 0, [(START_NS + at, "1", text, 1) for at, text in enumerate(names)])
    asyncio.run(store.ship(shipment([file])))
    found = _query(store, "SELECT label FROM duration ORDER BY at_ns")
    assert [label for (label,) in found] == names


def test_a_file_that_is_damaged_after_it_has_arrived_is_not_refused(
    store: ClickHouse, tmp_path: Path
) -> None:
    files = [publish(tmp_path, number) for number in range(2)]
    asyncio.run(store.ship(shipment(files)))
    Path(files[0].path).write_bytes(b"damaged")
    assert asyncio.run(store.ship(shipment(files))) == Receipt(200)


def test_a_table_of_an_earlier_version_with_a_projection_is_filled_as_well(
    store: ClickHouse, tmp_path: Path
) -> None:
    keys = "prefix, writer, segment, part"
    store._client.command(
        f"ALTER TABLE duration ADD PROJECTION files (SELECT {keys}, count() GROUP BY {keys})"
    )
    files = [publish(tmp_path, number) for number in range(2)]
    asyncio.run(store.open())
    assert [asyncio.run(store.ship(shipment(files))).rows for _ in range(2)] == [200, 200]
    assert asyncio.run(store.check({file.name: 100 for file in files})) == []
    store._client.command("ALTER TABLE duration DROP PROJECTION files")
    assert _query(store, _ROWS.format("duration")) == rows_of(files)


def test_the_token_removes_a_repetition_that_the_tables_do_not_show_yet(
    store: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the first INSERT still ran when the second began."""
    sent = shipment([publish(tmp_path, 0)])
    asyncio.run(store.ship(sent))
    with monkeypatch.context() as patch:
        answers = [set(), {file.name for file in sent.files}]
        patch.setattr(ClickHouse, "_present", lambda *_: answers.pop(0))
        asyncio.run(store.ship(sent))
    assert not answers
    assert _query(store, "SELECT count() FROM duration") == [(100,)]


def test_an_insert_that_is_confirmed_and_dropped_is_repeated_with_another_token(
    store: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server does that crashed between the log of a token and the part of its rows."""
    sent = shipment([publish(tmp_path, 0), publish(tmp_path, 1)])
    insert = store._insert_once

    def drop(table: str, files: Sequence[ShippedFile], token: str) -> int:
        return 0 if token in dropped else insert(table, files, token)

    monkeypatch.setattr(store, "_insert_once", drop)
    dropped = {sent.id}
    for _ in range(2):
        with pytest.raises(Unavailable, match="it has confirmed rows"):
            asyncio.run(store.ship(sent))
    receipt = asyncio.run(store.ship(sent))
    assert (receipt.rows, receipt.refused) == (200, {})
    assert _query(store, "SELECT count() FROM duration") == [(200,)]


def test_a_file_whose_rows_are_confirmed_and_never_there_is_set_aside(
    store: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = shipment([publish(tmp_path, 0), publish(tmp_path, 1)])
    Path(sent.files[1].path).write_bytes(CSV_HEADER)
    monkeypatch.setattr(store, "_insert_once", lambda *_: 0)
    for _ in range(4):
        with pytest.raises(Unavailable):
            asyncio.run(store.ship(sent))
    assert [*asyncio.run(store.ship(sent)).refused] == [sent.files[0].name]


def test_a_server_that_is_not_there_is_unavailable_and_its_error_has_no_secret() -> None:
    made = destination(Target("clickhouse://user:secret@127.0.0.1:1/db"))
    with pytest.raises(Unavailable) as caught:
        asyncio.run(made.open())
    assert "secret" not in str(caught.value)


def test_a_table_of_other_columns_is_an_error(server: ClickHouseServer) -> None:
    server.run(b"CREATE TABLE duration (x Int8) ENGINE = Memory", {})
    made = destination(Target(server.url))
    with pytest.raises(DestinationError, match="without the columns at_ns, day"):
        asyncio.run(made.open())
    asyncio.run(made.close())


@pytest.mark.skipif(_SERVER is None, reason="needs a server: AQLTELEMETRY_TEST_CLICKHOUSE=URL")
def test_a_real_server_takes_a_shipment_once(tmp_path: Path) -> None:
    made = destination(Target(_SERVER or ""))

    async def main(repeat: Callable[[], Awaitable[Receipt]]) -> None:
        await made.open()
        assert [(await repeat()).rows for _ in range(2)] == [300, 300]
        await made.close()

    sent = shipment([publish(tmp_path, number) for number in range(3)])
    asyncio.run(main(lambda: made.ship(sent)))
