"""Roll-ups count each archived row once, and outlive it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from aqltelemetry import TelemetryDB
from aqltelemetry.archive import compact as module
from aqltelemetry.archive.rollup import RolledUp, RollUps
from aqltelemetry.audit.rolled_up import rolled_up
from aqltelemetry.commands.cli import main
from aqltelemetry.reading.rollups import files
from aqltelemetry.reading.rollups.buckets import ERROR
from aqltelemetry.sinks.retention import Retention
from segments import BEGIN_NS, HOUR_NS, S, record

_LATER_NS = BEGIN_NS + 30 * HOUR_NS
_FOREVER_NS = 1 << 60
_PARTS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def compact(
    directory: Path,
    interval_ns: int | None = 10 * S,
    keep_ns: int = _FOREVER_NS,
    to: Path | None = None,
    now_ns: int = _LATER_NS,
) -> RolledUp:
    return module.compact(
        str(directory),
        older_than_ns=HOUR_NS,
        to=None if to is None else str(to),
        rollups=None if interval_ns is None else RollUps(interval_ns, keep_ns),
        now_ns=lambda: now_ns,
    ).rolled_up


def rollups(directory: Path) -> list[Path]:
    return sorted(directory.glob("rollup.*.parquet"))


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in rollups(directory)}


def by_hand(
    values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]],
) -> dict[str, float]:
    ordered = np.sort([value for value in values if not np.isnan(value)])
    found = {"count": len(values), "sum": ordered.sum(), "min": ordered[0], "max": ordered[-1]}
    return found | {
        name: ordered[int(np.ceil(part * len(ordered))) - 1] for name, part in _PARTS.items()
    }


@pytest.mark.parametrize("every", [None, "20s", "60s"])
def test_they_have_what_the_rows_have(tmp_path: Path, every: str | None) -> None:
    directory = record(tmp_path / "csv", rows=50)
    data = TelemetryDB(directory).duration().data().reset_index()
    made = compact(directory)
    assert (made.files, made.removed) == (3, 0)
    found = TelemetryDB(directory).rollups(every=every)
    data["begin"] = data["Timepoint"].dt.tz_localize(None).dt.floor(every or "10000D")
    keys = ["begin", "Label"] if every else ["Label"]
    groups = dict(list(data.groupby(keys)["Measurement"]))
    assert len(found) == len(groups)
    for key, row in found.iterrows():
        group: Any = key if every else (key,)
        expected = by_hand(groups[group].to_numpy())
        assert (row["count"], row["min"], row["max"]) == tuple(
            expected[name] for name in ("count", "min", "max")
        )
        assert row["sum"] == pytest.approx(expected["sum"], rel=1e-12)
        for name in _PARTS:
            assert abs(row[name] / expected[name] - 1) <= ERROR * (1 + 1e-9)


def test_values_that_are_no_numbers_or_not_positive_count(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", rows=200)
    values = TelemetryDB(directory).runtime().data()["Measurement"].to_numpy()
    compact(directory)
    (row,) = TelemetryDB(directory).rollups("runtime").to_dict("records")
    expected = by_hand(values)
    assert np.isnan(values).any()
    assert (row["count"], row["min"], row["max"]) == (len(values), 0.0, 3e12)
    assert row["p50"] == pytest.approx(expected["p50"], rel=ERROR)


def test_a_second_run_changes_nothing_and_each_run_makes_the_same(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    compact(directory)
    before = contents(directory)
    assert compact(directory) == RolledUp()
    assert compact(directory, interval_ns=60 * S) == RolledUp()
    assert contents(directory) == before
    compact(copy, interval_ns=None)
    assert not rollups(copy)
    assert compact(copy).files == 3
    assert contents(copy) == before


def test_they_outlive_the_rows(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", every_ns=HOUR_NS)
    compact(directory)
    expected = TelemetryDB(directory).rollups(every="1h")
    assert len(expected) == 6 * 4
    Retention(str(directory), 0, 1, now_ns=lambda: _LATER_NS, start=lambda _: None).sweep()
    db = TelemetryDB(directory)
    assert len(db.duration().data()) == 0
    assert db.rollups(every="1h").equals(expected)
    compact(directory)
    assert TelemetryDB(directory).rollups(every="1h").equals(expected)


def test_they_are_removed_when_they_are_too_old(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", every_ns=HOUR_NS)
    compact(directory)
    assert len(rollups(directory)) == 18
    now_ns = BEGIN_NS + 4 * HOUR_NS
    for number in range(2):
        made = compact(directory, keep_ns=HOUR_NS, now_ns=now_ns)
        assert (made.files, made.removed) == (0, 9 if number == 0 else 0)
    assert len(rollups(directory)) == 9


def test_a_file_that_is_archived_again_counts_once(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    compact(directory)
    expected = TelemetryDB(directory).rollups()
    for path in directory.glob("[!r]*.parquet"):
        path.unlink()
    for path in sorted(copy.glob("account.*.csv")) + sorted(copy.glob("duration.*.csv"))[3:]:
        shutil.copy(path, directory)
    assert compact(directory) == RolledUp()
    assert TelemetryDB(directory).rollups().equals(expected)


def test_only_what_is_not_in_a_roll_up_is_added(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    late = sorted(path.name for path in directory.glob("duration.*.csv"))[:3]
    for name in late:
        (directory / name).unlink()
    compact(directory)
    for path in directory.glob("duration.*.parquet"):
        path.unlink()
    for path in copy.glob("duration.*.csv"):
        shutil.copy(path, directory)
    assert compact(directory).files == 1
    assert rolled_up([directory]).problems == []
    found = TelemetryDB(directory).rollups()["count"].sum()
    assert found == len(TelemetryDB(copy).duration().data())


def test_they_are_with_archives_in_another_directory(tmp_path: Path) -> None:
    directory, to = record(tmp_path / "csv"), tmp_path / "to"
    to.mkdir()
    compact(directory, to=to, interval_ns=None)
    assert compact(directory, to=to).files == 3
    assert [path.name for path in rollups(directory)] == [path.name for path in rollups(to)]
    assert all(path.is_symlink() for path in rollups(directory))
    for path in rollups(directory):
        path.unlink()  # as if the process had been killed before it linked them
    compact(directory, to=to)
    assert len(rollups(directory)) == 3
    together = TelemetryDB([directory, to]).rollups()
    assert together.equals(TelemetryDB(directory).rollups())
    assert compact(directory, to=to, keep_ns=0).removed == 3
    assert not rollups(to)
    assert not [path for path in directory.iterdir() if path.name.startswith("rollup.")]


def test_limits_apply_to_them(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    compact(directory)
    every = TelemetryDB(directory).rollups(every="10s")
    since, until = BEGIN_NS + 90 * S, BEGIN_NS + 200 * S
    found = TelemetryDB(directory, since=since, until=until).rollups(every="10s")
    begins = every.index.get_level_values("begin").view(np.int64)
    assert found.equals(every[(begins >= since) & (begins < until)])
    one = TelemetryDB(directory, labels="/b/{id} [POST]").rollups()
    assert sorted(one.index) == ["/b/{id} [POST]", "/b/{id} [POST] 5xx"]
    assert TelemetryDB(directory, since=BEGIN_NS + 9 * HOUR_NS).rollups().empty
    with pytest.raises(ValueError, match="a roll-up is of all processes"):
        TelemetryDB(directory, pids=100).rollups()


def test_they_are_tables_of_sql(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    compact(directory)
    db = TelemetryDB(directory)
    (row,) = db.sql("select sum(Count) n, max(Max) m from rollup_duration").to_dict("records")
    assert row == {"n": len(db.duration().data()), "m": db.duration().data()["Measurement"].max()}
    sums = db.sql("select sum(list_sum(Counts)) + sum(NotPositive) as n from rollup_duration")
    assert sums["n"].tolist() == [row["n"]]


def _verify(directory: Path) -> Result:
    return CliRunner().invoke(main, ["verify", "--quiet", str(directory)])


def test_verify_counts_them(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    rows = sum(len(path.read_text().splitlines()) - 1 for path in directory.glob("[!a]*.csv"))
    compact(directory)
    found = _verify(directory)
    assert found.exit_code == 0
    assert f"3 roll-ups: {rows:,} rows of 36 files, each once" in found.output


def test_verify_finds_one_that_is_damaged_or_counts_a_file_twice(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    compact(directory)
    path = rollups(directory)[1]
    name = files.parse(path.name)
    assert name is not None
    other = path.with_name(files.name_of(name._replace(id="0" * 16)))
    shutil.copy(path, other)
    found = _verify(directory)
    assert found.exit_code == 1
    assert f"is in {other.name} and in {path.name}" in found.output
    other.unlink()
    path.write_bytes(path.read_bytes()[:-100])
    found = _verify(directory)
    assert found.exit_code == 1
    assert f"NOT EXPLAINED: {path.name}: " in found.output


def test_the_command_makes_them(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    command = ["compact", str(directory), "--older-than", "0s", "--rollup", "1m"]
    found = CliRunner().invoke(main, [*command, "--rollup-keep", "10000d"])
    assert found.exit_code == 0, found.output
    assert f"made 3 roll-ups: {6 * (4 + 1 + 1)} rows" in found.output
    wrong = CliRunner().invoke(main, [*command, "--rollup", "1ms"])
    assert wrong.exit_code == 2
    assert "must be from 10ms to 1d" in wrong.output
    assert CliRunner().invoke(main, command).output.count("removed 3 old roll-ups") == 1
    assert os.listdir(directory)
