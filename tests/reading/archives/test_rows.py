"""The rows of several archives are put next to each other when they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aqltelemetry import TelemetryDB
from aqltelemetry.archive.compact import compact
from aqltelemetry.reading.archives.rows import Room, count_rows, read_archive
from aqltelemetry.reading.rows import Process, Rows, join
from segments import BEGIN_NS, HOUR_NS, observations, record

_DAY_NS = 24 * HOUR_NS


def _rows(first: int, count: int) -> Rows:
    times = np.arange(first, first + count)
    codes = np.zeros(count, np.int8)
    return Rows(times, times / 2, codes, [f"label {first}"], codes, [Process(1, "a")])


def _archived(directory: Path, hours: int) -> list[str]:
    for hour in range(hours):
        record(directory, seed=hour, begin_ns=BEGIN_NS + hour * HOUR_NS)
    compact(str(directory), older_than_ns=0, now_ns=lambda: BEGIN_NS + _DAY_NS)
    return sorted(map(str, directory.glob("duration.*.parquet")))


def test_rows_that_are_put_next_to_each_other_are_joined_without_a_copy() -> None:
    parts = [_rows(0, 3), _rows(10, 2), _rows(20, 4)]
    first, second = Room.of([5, 4])
    placed = [second.take(parts[2]), first.take(parts[0]), first.take(parts[1])]
    found = join([placed[1], placed[2], placed[0]])
    expected = join(parts)
    for name in ("timepoints_ns", "measurements", "label_codes", "process_codes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.labels, found.processes) == (expected.labels, expected.processes)
    assert np.shares_memory(found.timepoints_ns, placed[0].timepoints_ns)
    assert np.shares_memory(found.measurements, placed[2].measurements)


def test_parts_that_leave_out_or_exchange_rows_are_copied() -> None:
    (room,) = Room.of([5])
    one, other = room.take(_rows(0, 3)), room.take(_rows(10, 2))
    for parts in ([other, one], [one, other[:1]], [one[::-1], other]):
        found = join(parts)
        times = [at for part in parts for at in part.timepoints_ns.tolist()]
        assert found.timepoints_ns.tolist() == times
        assert found.measurements.tolist() == [at / 2 for at in times]


def test_more_rows_than_there_is_room_for_stay_where_they_are() -> None:
    (room,) = Room.of([2])
    rows = _rows(0, 3)
    assert room.take(rows) is rows


def test_archives_are_read_into_one_array(tmp_path: Path) -> None:
    paths = _archived(tmp_path, hours=3)
    assert len(paths) == 3
    rooms = Room.of([count_rows(path, lambda _: True) for path in paths])
    parts = [
        part
        for path, room in zip(paths, rooms, strict=True)
        for part in read_archive(path, room=room)
    ]
    found = join(parts)
    assert all(np.shares_memory(found.measurements, part.measurements) for part in parts)
    alone = join([part for path in paths for part in read_archive(path)])
    np.testing.assert_array_equal(found.timepoints_ns, alone.timepoints_ns)
    np.testing.assert_array_equal(found.measurements, alone.measurements)


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


def test_an_archive_that_can_not_be_read_has_no_rows(tmp_path: Path) -> None:
    assert count_rows(str(tmp_path / "x.parquet"), lambda _: True) == 0


def test_files_that_are_not_chosen_are_left_out(tmp_path: Path) -> None:
    (path,) = _archived(tmp_path, hours=1)
    assert observations(TelemetryDB(tmp_path))
    rows = join(read_archive(path, chosen=lambda name: name.pid == 100))
    assert {process.pid for process in rows.processes} == {100}
    assert len(rows) == count_rows(path, lambda name: name.pid == 100)
