"""Archives are read without those files that are not wanted, and those that are gone."""

from __future__ import annotations

from pathlib import Path

from aqltelemetry import TelemetryDB
from aqltelemetry.archive.compact import compact
from aqltelemetry.reading.archives.rows import read_archive
from aqltelemetry.reading.rows import join
from aqltelemetry.sinks.archives import members_of
from segments import BEGIN_NS, HOUR_NS, observations, record

_DAY_NS = 24 * HOUR_NS


def _archived(directory: Path, hours: int) -> list[str]:
    for hour in range(hours):
        record(directory, seed=hour, begin_ns=BEGIN_NS + hour * HOUR_NS)
    compact(str(directory), older_than_ns=0, now_ns=lambda: BEGIN_NS + _DAY_NS)
    return sorted(map(str, directory.glob("duration.*.parquet")))


def test_the_rows_of_an_archive_that_is_removed_are_not_there(tmp_path: Path) -> None:
    csv, archived = tmp_path / "csv", tmp_path / "archived"
    for hour in (0, 2):
        record(csv, seed=hour, begin_ns=BEGIN_NS + hour * HOUR_NS)
    paths = _archived(archived, hours=3)
    db = TelemetryDB(archived, live=True, journal_dir=str(tmp_path / "journal"))
    db.prefixes()  # lists the directory
    Path(paths[1]).unlink()
    assert db.rows("duration").span_ns == TelemetryDB(csv).rows("duration").span_ns
    assert len(db.rows("duration")) == len(TelemetryDB(csv).rows("duration"))


def test_files_that_are_not_chosen_are_left_out(tmp_path: Path) -> None:
    (path,) = _archived(tmp_path, hours=1)
    assert observations(TelemetryDB(tmp_path))
    rows = join(read_archive(path, chosen=lambda name: name.pid == 100))
    assert {process.pid for process in rows.processes} == {100}
    assert len(rows) == sum(each.rows for each in members_of(path) if each.name.pid == 100)
