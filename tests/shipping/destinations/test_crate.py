"""CrateDB's destination, against a server that answers as its documentation says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aqltelemetry.errors import DestinationError
from aqltelemetry.shipping.destination import Unavailable
from aqltelemetry.shipping.destinations import crate_tables as tables
from aqltelemetry.shipping.destinations.crate import CrateDB, destination
from aqltelemetry.shipping.target import Origin, Target
from shipments import START_NS, Row, publish, rows_of, shipment

_SERVER = os.environ.get("AQLTELEMETRY_TEST_CRATE")


class Crate:
    """Tables with primary keys behind the endpoint; `errors` answer the next requests."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[Any, ...], list[Any]]] = {}
        self.shipped: dict[str, list[Any]] = {}
        self.errors: list[tuple[int, int]] = []
        self.bad_label = ""
        self.requests: list[tuple[str, str | None, str | None]] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Run a statement, as far as the destination uses the endpoint."""
        asked = await request.json()
        statement = asked["stmt"]
        headers = request.headers
        self.requests.append(
            (statement, headers.get("Authorization"), headers.get("Default-Schema"))
        )
        if self.errors:
            status, code = self.errors.pop(0)
            return _error(status, code)
        if statement.startswith("INSERT"):
            table = statement.split('"')[1]
            if "bulk_args" in asked:
                results = [{"rowcount": self._insert(table, row)} for row in asked["bulk_args"]]
                return web.json_response({"cols": [], "duration": 1.0, "results": results})
            count = self._insert(table, asked["args"])
            if count < 0:
                return _error(400, 4003)
            return web.json_response({"cols": [], "duration": 1.0, "rowcount": count})
        found: list[list[str]] = []
        if statement == tables.KNOWN:
            found = [[name] for name in asked["args"][0] if name in self.shipped]
        if statement.startswith("DELETE") and "file" in statement:
            day, file = asked["args"]
            kept = self.rows[statement.split('"')[1]]
            for key in [key for key in kept if key[:2] == (day, file)]:
                del kept[key]
        return web.json_response({"cols": ["file"], "rows": found, "rowcount": len(found)})

    def _insert(self, table: str, row: list[Any]) -> int:
        if table == "shipped":
            return 0 if self.shipped.setdefault(row[0], row) is not row else 1
        if self.bad_label and row[5] == self.bad_label:
            return -2
        rows = self.rows.setdefault(table, {})
        return 0 if rows.setdefault(tuple(row[:3]), row) is not row else 1

    def found(self, table: str) -> list[tuple[Any, ...]]:
        """Return time, value, label, PID and writer of the rows of a table."""
        at, value, label, pid, writer = (
            tables.COLUMNS.index(name) for name in ("at_ns", "value", "label", "pid", "writer")
        )
        rows = self.rows.get(table, {}).values()
        return sorted((row[at], row[value], row[label], row[pid], row[writer]) for row in rows)


def _error(status: int, code: int) -> web.Response:
    return web.json_response({"error": {"message": "an error", "code": code}}, status=status)


@asynccontextmanager
async def _served() -> AsyncIterator[tuple[Crate, str]]:
    crate = Crate()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/_sql", crate.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield crate, f"crate://user:secret@127.0.0.1:{runner.addresses[0][1]}/telemetry"
    finally:
        await runner.cleanup()


def _with_store(
    test: Callable[[Crate, CrateDB], Awaitable[None]], origin: Origin | None = None
) -> None:
    async def main() -> None:
        async with _served() as (crate, url):
            store = destination(Target(url, origin or Origin(), retention_days=30))
            await store.open()
            try:
                await test(crate, store)
            finally:
                await store.close()

    asyncio.run(main())


def test_every_row_arrives_under_its_file_and_its_line(tmp_path: Path) -> None:
    files = [publish(tmp_path, number) for number in range(3)]

    async def test(crate: Crate, store: CrateDB) -> None:
        receipt = await store.ship(shipment(files))
        assert (receipt.rows, receipt.refused) == (300, {})
        assert crate.found("duration") == rows_of(files)
        every = [
            dict(zip(tables.COLUMNS, row, strict=True)) for row in crate.rows["duration"].values()
        ]
        first = next(row for row in every if row["label"] == "/a [GET]")
        assert {row["line"] for row in every if row["file"] == files[0].name} == {*range(100)}
        assert first["file"] == files[0].name
        assert (first["route"], first["method"], first["kind"]) == ("/a", "GET", "request")
        assert (first["host"], first["service"], first["instance"]) == ("h", "s", "i")
        assert {asked[1:] for asked in crate.requests} == {("Basic dXNlcjpzZWNyZXQ=", "telemetry")}

    _with_store(test, Origin("h", "s", "i"))


def test_a_shipment_that_is_sent_again_changes_nothing(tmp_path: Path) -> None:
    sent = shipment([publish(tmp_path, number) for number in range(2)])

    async def test(crate: Crate, store: CrateDB) -> None:
        for _ in range(2):
            assert (await store.ship(sent)).rows == 200
        crate.shipped.clear()  # as if it was killed before the last step
        assert (await store.ship(sent)).rows == 200
        assert len(crate.found("duration")) == 200
        assert await store.shipped([file.name for file in sent.files]) == crate.shipped.keys()

    _with_store(test)


def test_a_file_whose_rows_are_in_another_order_has_the_same_keys(tmp_path: Path) -> None:
    """A shipment may be cut off after some rows, and its files archived before it is sent again."""
    file = publish(tmp_path, 1)

    async def test(crate: Crate, store: CrateDB) -> None:
        await store.ship(shipment([file]))
        before = dict(crate.rows["duration"])
        for key in list(before)[::2]:
            del crate.rows["duration"][key]
        crate.shipped.clear()
        header, *lines = Path(file.path).read_text().splitlines()
        Path(file.path).write_text("\n".join([header, *reversed(lines), ""]))
        await store.ship(shipment([file]))
        assert crate.rows["duration"] == before

    _with_store(test)


def test_values_that_json_does_not_have_are_texts(tmp_path: Path) -> None:
    rows: list[Row] = [(START_NS, text, "x", 1) for text in ("nan", "inf", "-inf", "0.1")]

    async def test(crate: Crate, store: CrateDB) -> None:
        await store.ship(shipment([publish(tmp_path, 0, rows, prefix="pool")], "pool"))
        found = [row[4] for row in crate.rows["custom"].values()]
        assert found == ["-Infinity", 0.1, "Infinity", "NaN"]

    _with_store(test)


def test_a_row_that_the_server_refuses_sets_its_file_aside(tmp_path: Path) -> None:
    files = [publish(tmp_path, number, labels=[f"label {number}"]) for number in range(3)]
    Path(files[2].path).write_text("Timepoint,Measurement,Label,PID\n1,x,y,z\n")

    async def test(crate: Crate, store: CrateDB) -> None:
        crate.bad_label = "label 1"
        receipt = await store.ship(shipment(files))
        assert receipt.rows == 100
        assert receipt.refused[files[1].name] == "row 0: an error (4003)"
        assert receipt.refused.keys() == {file.name for file in files[1:]}
        assert crate.found("duration") == rows_of(files[:1])
        assert crate.shipped.keys() == {files[0].name}

    _with_store(test)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (503, 5002, Unavailable),
        (500, 5000, Unavailable),
        (403, 4031, Unavailable),
        (403, 4011, DestinationError),
        (404, 4041, DestinationError),
        (401, 0, DestinationError),
    ],
)
def test_errors_of_the_server_and_of_the_set_up_are_distinguished(
    tmp_path: Path, status: int, code: int, error: type[Exception]
) -> None:
    sent = shipment([publish(tmp_path, 0)])

    async def test(crate: Crate, store: CrateDB) -> None:
        crate.errors = [(status, code)]
        with pytest.raises(error) as caught:
            await store.ship(sent)
        assert "secret" not in str(caught.value)
        assert (await store.ship(sent)).rows == 100

    _with_store(test)


def test_partitions_before_the_retention_are_removed_at_most_once_an_hour(tmp_path: Path) -> None:
    async def test(crate: Crate, store: CrateDB) -> None:
        for number in range(2):
            await store.ship(shipment([publish(tmp_path, number)]))
        removals = [asked[0] for asked in crate.requests if asked[0].startswith("DELETE")]
        assert removals == [tables.expiry(table) for table in tables.TABLES]

    _with_store(test)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    async def main() -> None:
        store = destination(Target("crate://user:secret@127.0.0.1:1"))
        with pytest.raises(Unavailable) as caught:
            await store.open()
        await store.close()
        assert "secret" not in str(caught.value)

    asyncio.run(main())


@pytest.mark.skipif(_SERVER is None, reason="needs a server: AQLTELEMETRY_TEST_CRATE=URL")
def test_a_real_server_takes_a_shipment_once(tmp_path: Path) -> None:
    sent = shipment([publish(tmp_path, number) for number in range(3)])

    async def main() -> None:
        store = destination(Target(_SERVER or ""))
        await store.open()
        for _ in range(2):
            assert (await store.ship(sent)).rows == 300
        names = {file.name for file in sent.files}
        assert await store.shipped([*names]) == names
        await store.close()

    asyncio.run(main())
