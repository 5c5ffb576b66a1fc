"""The page about shipped tables lists the columns that there are, and its queries run."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import duckdb
import pytest
from pyarrow import parquet

from aqltelemetry.shipping.destination import Destination
from aqltelemetry.shipping.destinations import crate_tables
from aqltelemetry.shipping.destinations.clickhouse import destination as clickhouse
from aqltelemetry.shipping.destinations.parquet import DAYS, FILES
from aqltelemetry.shipping.destinations.parquet import destination as in_parquet
from aqltelemetry.shipping.target import Origin, Target
from clickhouse_server import clickhouse_server
from pages import Page
from shipments import publish, shipment

pytestmark = pytest.mark.system
_PAGE = Page("docs/reference/shipped-tables.md")
_GUIDE = Page("docs/guides/ship.md")
_ORIGIN = Origin("h", "orders", "i")


def _columns(section: str) -> set[str]:
    """Return the columns of the tables before the sections of stores, and in one of those."""
    general, *sections = re.split(r"^## ", _PAGE.path.read_text(), flags=re.MULTILINE)
    (own,) = [text for text in sections if text.startswith(f"{section}\n")]
    first_cells = re.findall(r"^\| (`.+?`) \|", general + own, re.MULTILINE)
    return {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}


def _ship(store: Destination, directory: Path) -> None:
    async def main() -> None:
        await store.open()
        await store.ship(shipment([publish(directory, number) for number in range(2)]))
        await store.close()

    asyncio.run(main())


def test_the_columns_and_queries_of_clickhouse_are_right(tmp_path: Path) -> None:
    with clickhouse_server(tmp_path / "engine") as server:
        _ship(clickhouse(Target(server.url, _ORIGIN)), tmp_path)
        described = server.run(b"DESCRIBE TABLE duration", {}).decode()
        assert {line.split("\t")[0] for line in described.splitlines()} <= _columns("ClickHouse")
        minutes, files = _PAGE.blocks("sql")
        server.run(minutes.strip().rstrip(";").encode(), {})
        found = server.run(files.strip().rstrip(";").encode(), {}).decode()
        assert [line.split("\t")[-1] for line in found.splitlines()] == ["100", "100"]


def test_the_columns_and_the_query_of_parquet_are_right(tmp_path: Path) -> None:
    root = tmp_path / "store"
    _ship(in_parquet(Target(f"file://{root}", _ORIGIN)), tmp_path)
    (path,) = root.rglob("*.parquet")
    schema = parquet.read_schema(path)
    assert set(schema.names) <= _columns("Parquet")
    assert {key.decode() for key in schema.metadata} == {FILES, DAYS}
    assert all(f"`{name}`" in _PAGE.path.read_text() for name in (FILES, DAYS))
    (query,) = _GUIDE.blocks("sql")
    query = query.replace("/mnt/telemetry", str(root)).replace("2026-11-28", "2026-11-24")
    with duckdb.connect() as connection:
        ((route, requests, p99_ms),) = connection.execute(query).fetchall()
    assert (route, requests) == ("/a", 26)
    assert 0 < p99_ms < 1000


def test_the_columns_of_crate_are_listed() -> None:
    listed = _columns("CrateDB")
    assert {*crate_tables.COLUMNS, "at"} <= listed
