"""PostgreSQL as a destination, with a server of this test."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from aqltelemetry import Monitor, record, time_block
from aqltelemetry.shipping.destination import FileGone, Shipment, ShippedFile
from aqltelemetry.shipping.destinations.postgresql import destination
from aqltelemetry.shipping.shipper import Shipper, Surroundings
from aqltelemetry.shipping.target import Origin, Target
from memory_destination import ledger, publish
from pages import ROOT
from postgres import Server

pytestmark = pytest.mark.system
_LABELS = ('a "quoted", label', "", "NULL", r"\N", "é\n", "50 %", "/v [GET]", "/v [GET] 5xx")


async def _ship(directory: Path, server: Server, state: Path) -> Shipper:
    with ledger(state) as book:
        target = Target(server.url, Origin("h", "s", "i"), shipper=book.shipper)
        shipper = Shipper([str(directory)], book, destination(target), Surroundings())
        await shipper.ship()
        await shipper.close()
    return shipper


async def _record(directory: Path) -> None:
    async with Monitor(directory):
        for label in _LABELS:
            for _ in range(50):
                with time_block(label):
                    pass
        record("queue", 3.5)
        record("own", 4.5, prefix="mine")


async def test_every_value_arrives_once_and_unchanged(
    directory: Path, tmp_path: Path, postgres: Server
) -> None:
    await _record(directory)
    first = await _ship(directory, postgres, tmp_path)
    await _record(directory)
    await _ship(directory, postgres, tmp_path)
    again = await _ship(directory, postgres, tmp_path / "new ledger")
    assert first.done.files > 0
    assert again.done.files == 0
    for table, prefixes in {
        "duration": ["duration"],
        "runtime": ["runtime"],
        "custom": ["custom", "mine"],
        "account": ["account"],
    }.items():
        assert _stored(postgres, table) == _published(directory, prefixes)
    shown = postgres.psql("SELECT DISTINCT host, service, instance FROM aqltelemetry.runtime")
    assert shown == "h|s|i"
    shown = postgres.psql("SELECT prefix, label, value FROM aqltelemetry.custom ORDER BY 1")
    assert shown.splitlines()[0] == "custom|queue|3.5"
    assert postgres.psql("SELECT sum(rows) FROM aqltelemetry.shipped") == postgres.psql(
        "SELECT (SELECT count(*) FROM aqltelemetry.duration) + "
        "(SELECT count(*) FROM aqltelemetry.runtime) + "
        "(SELECT count(*) FROM aqltelemetry.custom) + "
        "(SELECT count(*) FROM aqltelemetry.account)"
    )


_Values = Counter[tuple[int, float, str, int]]


def _stored(server: Server, table: str) -> _Values:
    columns = "at_ns, value, encode(convert_to(label, 'UTF8'), 'hex'), pid"
    lines = server.psql(f"SELECT {columns} FROM aqltelemetry.{table}").splitlines()
    return Counter(
        (int(at), float(value), bytes.fromhex(label).decode(), int(pid))
        for at, value, label, pid in (line.split("|") for line in lines)
    )


def _published(directory: Path, prefixes: list[str]) -> _Values:
    found: _Values = Counter()
    for path in (path for prefix in prefixes for path in directory.glob(f"{prefix}.*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            next(file)
            found.update((int(a), float(m), label, int(p)) for a, m, label, p in csv.reader(file))
    return found


async def test_labels_are_split_into_columns(
    directory: Path, tmp_path: Path, postgres: Server
) -> None:
    await _record(directory)
    await _ship(directory, postgres, tmp_path)
    found = postgres.psql(
        "SELECT route, method, status, kind, count(*) FROM aqltelemetry.duration "
        "WHERE label LIKE '/v%' GROUP BY 1, 2, 3, 4 ORDER BY 3"
    )
    assert found.splitlines() == ["/v|GET||request|50", "/v|GET|5xx|request|50"]
    assert postgres.psql("SELECT count(*) FROM aqltelemetry.label") == str(len(_LABELS))


async def test_a_damaged_file_is_refused_and_the_others_arrive(
    directory: Path, tmp_path: Path, postgres: Server
) -> None:
    good = [publish(directory, segment) for segment in (1, 3)]
    bad = publish(directory, 2)
    (directory / bad).write_text("Timepoint,Measurement,Label,PID\n17,x,label,7\n")
    torn = publish(directory, 4)
    (directory / torn).write_text("nothing")
    shipper = await _ship(directory, postgres, tmp_path)
    assert (shipper.done.files, shipper.done.refused, shipper.done.rows) == (2, 2, 20)
    stored = postgres.psql("SELECT file, rows FROM aqltelemetry.shipped ORDER BY 1").splitlines()
    assert stored == [f"{name}|10" for name in sorted(good)]
    with ledger(tmp_path) as book:
        reasons = {each.name: each.reason for each in book.refused()}
    assert "invalid input syntax" in reasons[bad]
    assert "its header is" in reasons[torn]


async def test_old_partitions_are_dropped(
    directory: Path, tmp_path: Path, postgres: Server
) -> None:
    publish(directory)
    await _ship(directory, postgres, tmp_path)
    names = (
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'aqltelemetry.duration_rows'::regclass"
    )
    assert postgres.psql(names) == "1"
    await _record(directory)
    with ledger(tmp_path) as book:
        target = Target(postgres.url, retention_days=2)
        shipper = Shipper([str(directory)], book, destination(target), Surroundings())
        await shipper.ship()
        await shipper.close()
    assert postgres.psql("SELECT count(*) FROM aqltelemetry.duration WHERE pid = 7") == "0"


def test_the_command_ships_and_never_shows_a_password(directory: Path, postgres: Server) -> None:
    publish(directory)
    command = [sys.executable, "-W", "error", "-m", "aqltelemetry", "ship", str(directory)]
    secret = "hunter2"
    url = postgres.url.replace("test@", f"test:{secret}@")
    refused = subprocess.run(
        [*command, "--to", url], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    environ = {**os.environ, "AQLTELEMETRY_SHIP_TO": url}
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("shipped 1 file, 10 rows,")
    assert secret not in done.stdout + done.stderr + refused.stdout + refused.stderr
    wrong = {**environ, "AQLTELEMETRY_SHIP_TO": url.replace(postgres.database, "none")}
    failed = subprocess.run(
        command, env=wrong, capture_output=True, text=True, timeout=60, check=False
    )
    assert failed.returncode == 1
    assert 'database "none" does not exist' in failed.stderr
    assert secret not in failed.stdout + failed.stderr


async def test_a_shipment_whose_arrival_was_unknown_is_stored_once(
    directory: Path, postgres: Server
) -> None:
    """Also as a part of a larger one."""
    files = [ShippedFile(name, str(directory / name)) for name in _published_names(directory, 3)]
    store = destination(Target(postgres.url))
    await store.open()
    first = await store.ship(Shipment("1" * 32, "duration", files[:2]))
    again = await store.ship(Shipment("1" * 32, "duration", files[:2]))
    larger = await store.ship(Shipment("2" * 32, "duration", files))
    assert [each.rows for each in (first, again, larger)] == [20, 20, 30]
    assert await store.shipped([each.name for each in files]) == {each.name for each in files}
    assert await store.check({each.name: 10 for each in files}) == []
    await store.close()
    assert postgres.psql("SELECT count(*) FROM aqltelemetry.duration") == "30"


async def test_a_check_finds_rows_that_are_missing_and_repeated(
    directory: Path, postgres: Server
) -> None:
    files = [ShippedFile(name, str(directory / name)) for name in _published_names(directory, 2)]
    store = destination(Target(postgres.url))
    await store.open()
    await store.ship(Shipment("1" * 32, "duration", files))
    postgres.psql("DELETE FROM aqltelemetry.duration_rows WHERE value = 0")
    found = await store.check({files[0].name: 10, files[1].name: 11})
    await store.close()
    assert found == [
        f"{files[1].name} has 11 rows here, and 10 there",
        f"the table has 18 rows of duration of the writer {'a' * 16}, and its files 20",
    ]


async def test_a_connection_that_the_server_believes_open_does_not_block_the_next_one(
    directory: Path, postgres: Server
) -> None:
    """It holds the locks of a shipment, as after a network that failed."""
    (name,) = _published_names(directory, 1)
    target = Target(postgres.url, shipper="0123456789abcdef")
    first = destination(target)
    await first.open()
    await first.close()
    lost = await asyncpg.connect(
        postgres.url, server_settings={"application_name": f"aqltelemetry ship {target.shipper}"}
    )
    await lost.execute(
        f"BEGIN; INSERT INTO aqltelemetry.shipped (file, source) VALUES ('{name}', 1)"
    )
    store = destination(target)
    await store.open()
    file = ShippedFile(name, str(directory / name))
    assert (await store.ship(Shipment("1" * 32, "duration", [file]))).rows == 10
    await store.close()
    lost.terminate()


async def test_a_file_that_is_removed_while_it_is_sent_leaves_nothing(
    directory: Path, postgres: Server
) -> None:
    names = _published_names(directory, 2)
    files = [ShippedFile(name, str(directory / name)) for name in names]
    store = destination(Target(postgres.url))
    await store.open()
    (directory / names[1]).unlink()
    with pytest.raises(FileGone):
        await store.ship(Shipment("1" * 32, "duration", files))
    assert await store.shipped(names) == frozenset()
    assert (await store.ship(Shipment("2" * 32, "duration", files[:1]))).rows == 10
    await store.close()


async def test_the_page_has_the_columns_of_the_views_and_its_query_runs(
    directory: Path, postgres: Server
) -> None:
    text = (ROOT / "docs" / "reference" / "postgresql-tables.md").read_text()
    named = set(re.findall(r"`(\w+)`", text))
    store = destination(Target(postgres.url))
    await store.open()
    (name,) = _published_names(directory, 1)
    await store.ship(Shipment("1" * 32, "duration", [ShippedFile(name, str(directory / name))]))
    await store.close()
    found = postgres.psql(
        "SELECT DISTINCT table_name || ' ' || column_name FROM information_schema.columns "
        "WHERE table_schema = 'aqltelemetry' AND table_name NOT LIKE '%_rows_2%'"
    )
    assert found
    undescribed = {"file", "rows", "shipped", "version"}  # said in words
    assert {word for line in found.splitlines() for word in line.split()} - undescribed <= named
    (query,) = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert postgres.psql(query.replace("now()", "timestamptz 'epoch'")) == "/a|10|8.91e-09"


def _published_names(directory: Path, number: int) -> list[str]:
    return [publish(directory, segment) for segment in range(1, number + 1)]
