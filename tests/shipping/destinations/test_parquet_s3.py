"""Parquet in an object store: pyarrow's client and a server that speaks S3."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from pyarrow import fs

from aqltelemetry.errors import DestinationError
from aqltelemetry.shipping.destinations.parquet import destination
from aqltelemetry.shipping.target import Origin, Target
from s3_server import s3_server
from shipments import publish, rows_of, shipment

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def options() -> Iterator[str]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
    with s3_server(port) as found:
        yield found


def test_a_shipment_is_stored_once_and_read_back(options: str, tmp_path: Path) -> None:
    url = f"s3://key:secret@telemetry/fleet/a?{options}"
    store = destination(Target(url, Origin("h", "web", "i")))
    files = [publish(tmp_path, number) for number in range(3)]
    sent = shipment(files)

    async def main() -> None:
        await store.open()
        assert await store.shipped([files[0].name]) == frozenset()
        for _ in range(2):
            assert (await store.ship(sent)).rows == 300
        assert await store.shipped([file.name for file in files]) == {file.name for file in files}
        await store.close()

    asyncio.run(main())
    where, root = fs.FileSystem.from_uri(url)
    listed = where.get_file_info(fs.FileSelector(root, recursive=True))
    (name,) = [info.path for info in listed if info.is_file]
    assert name.startswith(f"{root}/duration/day=2026-11-24/service=web/2026")
    copy = tmp_path / "copy.parquet"
    with where.open_input_file(name) as source:
        copy.write_bytes(source.read())
    query = f"SELECT at_ns, value_ns / 1e9, label, pid, writer FROM '{copy}' ORDER BY ALL"
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchall() == rows_of(files)


def test_a_bucket_that_does_not_exist_is_an_error(options: str) -> None:
    store = destination(Target(f"s3://key:secret@another/x?{options}"))
    with pytest.raises(DestinationError, match="the bucket 'another' does not exist") as caught:
        asyncio.run(store.open())
    assert "secret" not in str(caught.value)
