"""Loaded observations can be queried by SQL, and written as Parquet."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.errors import MissingExtraError
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish, recorded


def test_each_prefix_is_a_table(tmp_path: Path) -> None:
    rows = recorded(5)
    publish(tmp_path, rows)
    publish(tmp_path, [Row(EPOCH_NS + 3, 2.5, "rss", PROCESSES[0])], "runtime")
    publish(tmp_path, [Row(EPOCH_NS, 1.0, "length", PROCESSES[0])], "my-queue")
    db = TelemetryDB(tmp_path)
    query = "select label, count(*) as n from duration group by label order by label"
    counts = db.sql(query).set_index("Label")["n"].to_dict()
    assert counts == db.duration().data()["Label"].value_counts().to_dict()
    (row,) = db.sql("select * from runtime").to_dict("records")
    assert row == {
        "Timepoint": pd.Timestamp(EPOCH_NS + 3),
        "Measurement": 2.5,
        "Label": "rss",
        "PID": PROCESSES[0][0],
        "Writer": PROCESSES[0][1],
    }
    assert db.sql('select Label from "my-queue"')["Label"].tolist() == ["length"]
    assert db.sql("from runtime, duration select count(*)").iloc[0, 0] == len(rows)
    assert db.sql("select 1 as one")["one"].tolist() == [1]


def test_duckdb_computes_the_same_percentiles(tmp_path: Path) -> None:
    rows = [row for row in recorded(6) if np.isfinite(row.value)]
    db = publish(tmp_path, rows)
    query = "select Label, quantile_cont(Measurement, 0.99) as p99 from duration group by 1"
    found = db.sql(query).set_index("Label")["p99"]
    table = db.summary()
    for label, row in zip(table.index, table.to_dict("records"), strict=True):
        assert found[label] == pytest.approx(row["p99_s"], rel=1e-12)


def test_a_wrong_query_raises_the_error_of_duckdb(tmp_path: Path) -> None:
    with pytest.raises(duckdb.Error, match="nothing"):
        TelemetryDB(tmp_path).sql("select * from nothing")


def test_a_table_without_rows_can_be_queried(tmp_path: Path) -> None:
    assert TelemetryDB(tmp_path).sql("select count(*) from duration").iloc[0, 0] == 0


def test_a_parquet_file_contains_every_observation(tmp_path: Path) -> None:
    publish(tmp_path, recorded(7))
    publish(tmp_path, [Row(EPOCH_NS, 2.5, "rss", PROCESSES[0])], "runtime")
    db = TelemetryDB(tmp_path)
    path = tmp_path / "all.parquet"
    path.write_text("an older file")
    db.to_parquet(path)
    found = pd.read_parquet(path)
    assert found["Prefix"].value_counts().to_dict() == {"duration": 400, "runtime": 1}
    both = [db.duration().data_by_process(), db.runtime().data_by_process()]
    expected = pd.concat([frame.astype({"Label": str, "Writer": str}) for frame in both])
    columns = ["Timepoint", "Measurement", "Label", "PID", "Writer"]
    texts = found[columns].astype({"Label": str, "Writer": str})
    pd.testing.assert_frame_equal(texts, expected.reset_index(drop=True))
    assert [each.name for each in tmp_path.iterdir() if "parquet" in each.name] == ["all.parquet"]


def test_a_parquet_file_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    db = publish(tmp_path, recorded(8))
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        db.to_parquet(tmp_path / "x")
    assert not (tmp_path / "x.tmp").exists()


@pytest.mark.parametrize(("package", "extra"), [("duckdb", "sql"), ("pyarrow", "pyarrow")])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    db = publish(tmp_path, recorded(9))
    db.duration()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"aqltelemetry\[{extra}\]") as caught:
        db.sql("select 1") if extra == "sql" else db.to_parquet(tmp_path / "x.parquet")
    assert caught.value.extra == extra
