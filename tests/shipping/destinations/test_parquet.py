from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyarrow import parquet

from aqltelemetry.errors import DestinationError
from aqltelemetry.shipping.destination import FileGone, ShippedFile, Unavailable
from aqltelemetry.shipping.destinations.parquet import FILES, ParquetStore, destination
from aqltelemetry.shipping.target import Origin, Target
from aqltelemetry.system import syscalls
from shipments import START_NS, Row, publish, rows_of, shipment

_NS_PER_DAY = 86_400 * 10**9


@pytest.fixture
def files_of(tmp_path: Path) -> Path:
    directory = tmp_path / "monitoring"
    directory.mkdir()
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> ParquetStore:
    made = destination(Target(f"file://{root}", Origin("h", "web /ü", "i")))
    asyncio.run(made.open())
    return made


def _objects(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _query(root: Path, what: str, prefix: str = "duration") -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        source = f"read_parquet('{root}/{prefix}/**/*.parquet', hive_partitioning = true)"
        return connection.execute(f"SELECT {what} FROM {source} ORDER BY ALL").fetchall()


def test_duckdb_reads_every_row_with_its_label_and_its_origin(
    store: ParquetStore, root: Path, files_of: Path
) -> None:
    files = [publish(files_of, number) for number in range(3)]
    receipt = asyncio.run(store.ship(shipment(files)))
    assert (receipt.rows, receipt.refused) == (300, {})
    found = _query(root, "at_ns, value_ns / 1e9, label, pid, writer")
    assert found == rows_of(files)
    assert _query(root, "DISTINCT day::text, service, host, instance") == [
        ("2026-11-24", "web /ü", "h", "i")
    ]
    parts = _query(root, "DISTINCT label, route, method, status, kind")
    assert ("/a [GET] 5xx", "/a", "GET", "5xx", "request") in parts
    assert ("query failed", "query", "", "failed", "block") in parts


def test_values_of_other_prefixes_are_doubles(
    store: ParquetStore, root: Path, files_of: Path
) -> None:
    rows: list[Row] = [(START_NS, text, "x", 1) for text in ("inf", "-inf", "5e-324", "0.1")]
    asyncio.run(store.ship(shipment([publish(files_of, 0, rows, prefix="pool")], "pool")))
    assert _query(root, "value", "pool") == [(float("-inf"),), (5e-324,), (0.1,), (float("inf"),)]


def test_a_shipment_that_is_sent_again_replaces_its_object_by_an_equal_one(
    store: ParquetStore, root: Path, files_of: Path
) -> None:
    sent = shipment([publish(files_of, number) for number in range(2)])
    asyncio.run(store.ship(sent))
    (name,) = _objects(root)
    before = (root / name).read_bytes()
    asyncio.run(store.ship(sent))
    assert _objects(root) == [name]
    assert (root / name).read_bytes() == before
    assert name.startswith("duration/day=2026-11-24/service=web%20%2F%C3%BC/20261124T")
    assert name.endswith(f".{sent.id}.parquet")


def test_without_a_service_the_partition_is_that_of_null(root: Path, files_of: Path) -> None:
    made = destination(Target(f"file://{root}"))
    asyncio.run(made.open())
    asyncio.run(made.ship(shipment([publish(files_of, 0)])))
    assert _query(root, "DISTINCT service") == [(None,)]


def test_each_row_is_in_the_partition_of_its_day(
    store: ParquetStore, root: Path, files_of: Path
) -> None:
    midnight_ns = START_NS // _NS_PER_DAY * _NS_PER_DAY
    times = (-2, -1, 0, 1)
    rows: list[Row] = [(midnight_ns + at, "0.1", "x", 1) for at in times]
    asyncio.run(store.ship(shipment([publish(files_of, 0, rows)])))
    assert len(_objects(root)) == 2
    found = _query(root, f"day::text, at_ns - {midnight_ns}")
    assert found == [
        *(("2026-11-23", -2), ("2026-11-23", -1), ("2026-11-24", 0), ("2026-11-24", 1)),
    ]


def test_files_that_arrived_are_known_by_name(store: ParquetStore, files_of: Path) -> None:
    files = [publish(files_of, number) for number in range(4)]
    asyncio.run(store.ship(shipment(files[:2])))
    asyncio.run(store.ship(shipment(files[2:3])))
    names = [file.name for file in files]
    assert asyncio.run(store.shipped([*names, "another.csv"])) == set(names[:3])


def test_a_shipment_that_lacks_the_object_of_a_day_is_not_known(
    store: ParquetStore, root: Path, files_of: Path
) -> None:
    midnight_ns = START_NS // _NS_PER_DAY * _NS_PER_DAY
    file = publish(files_of, 0, [(midnight_ns + at, "0.1", "x", 1) for at in (-1, 0)])
    asyncio.run(store.ship(shipment([file])))
    assert asyncio.run(store.shipped([file.name])) == {file.name}
    (root / _objects(root)[1]).unlink()
    assert asyncio.run(store.shipped([file.name])) == frozenset()


def test_a_check_compares_the_rows_of_shipments(store: ParquetStore, files_of: Path) -> None:
    files = [publish(files_of, number) for number in range(3)]
    asyncio.run(store.ship(shipment(files[:2])))
    asyncio.run(store.ship(shipment(files[2:])))
    rows = dict.fromkeys((file.name for file in files), 100)
    assert asyncio.run(store.check(rows)) == []
    (difference,) = asyncio.run(store.check({**rows, files[0].name: 99}))
    assert difference.endswith(" have 199 rows here, and 200 there")
    # Of the first shipment one file is gone here, so that there is nothing to compare.
    assert asyncio.run(store.check({files[0].name: 99, files[2].name: 100})) == []


def test_a_file_that_can_not_be_read_is_refused_and_the_others_arrive(
    store: ParquetStore, root: Path, files_of: Path
) -> None:
    files = [publish(files_of, number) for number in range(4)]
    Path(files[1].path).write_text("Timepoint,Measurement,Label,PID\n1,x,y,z\n")
    Path(files[2].path).write_text(f"Timepoint,Measurement,Label,PID\n{START_NS},nan,x,1\n")
    other = ShippedFile("another.csv", files[0].path)
    receipt = asyncio.run(store.ship(shipment([*files, other])))
    assert receipt.rows == 200
    assert set(receipt.refused) == {files[1].name, files[2].name, other.name}
    assert _query(root, "DISTINCT writer") == [
        (row[4],) for row in sorted({rows_of([file])[0] for file in (files[0], files[3])})
    ]
    (name,) = _objects(root)
    metadata = parquet.read_schema(root / name).metadata
    assert json.loads(metadata[FILES.encode()]) == [files[0].name, files[3].name]


def test_a_file_that_is_removed_leaves_everything_as_it_was(
    store: ParquetStore, root: Path, files_of: Path
) -> None:
    files = [publish(files_of, number) for number in range(2)]
    os.unlink(files[1].path)
    with pytest.raises(FileGone):
        asyncio.run(store.ship(shipment(files)))
    assert _objects(root) == []


def test_a_file_appears_when_it_is_complete(
    store: ParquetStore, root: Path, files_of: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = shipment([publish(files_of, 0)])

    def full(_fd: int) -> None:
        assert all(name.endswith(".tmp") for name in _objects(root))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "synchronise", full)
        with pytest.raises(Unavailable, match="No space left"):
            asyncio.run(store.ship(sent))
    assert _objects(root) == []


def test_integers_are_delta_encoded_and_rows_are_sorted_by_label_and_time(
    store: ParquetStore, root: Path, files_of: Path
) -> None:
    asyncio.run(store.ship(shipment([publish(files_of, number) for number in range(2)])))
    file = parquet.ParquetFile(root / _objects(root)[0])
    group = file.metadata.row_group(0)
    for at, name in enumerate(file.schema_arrow.names[:2]):
        assert name in {"at_ns", "value_ns"}
        assert "DELTA_BINARY_PACKED" in group.column(at).encodings
        assert group.column(at).statistics.has_min_max
        assert group.column(at).compression == "ZSTD"
    table = file.read(["label", "at_ns"]).to_pydict()
    pairs = list(zip(table["label"], table["at_ns"], strict=True))
    assert pairs == sorted(pairs)


def test_a_url_of_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    made = ParquetStore(Target("unknown://somewhere"))
    with pytest.raises(DestinationError):
        asyncio.run(made.open())
