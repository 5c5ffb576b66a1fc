"""Archives are read in the order of labels and processes, so that tables need no copy of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aqltelemetry.archive.compact import compact
from aqltelemetry.errors import ArchiveError
from aqltelemetry.reading.archives import rows as archive_rows
from aqltelemetry.reading.archives.placed import read_placed
from aqltelemetry.reading.archives.published import read_published
from aqltelemetry.reading.archives.rows import read_archive
from aqltelemetry.reading.rows import Rows, join
from aqltelemetry.reading.summaries import groups
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.sinks.archives import members_of
from segments import BEGIN_NS, HOUR_NS, record

_DAY_NS = 24 * HOUR_NS
_COLUMNS = ("timepoints_ns", "measurements", "label_codes", "process_codes")
_compiled = pytest.mark.skipif(groups.compiled is None, reason="sorted by the extension only")


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Three archives of the same processes, of which the last one has one more."""
    for hour in range(3):
        record(tmp_path, processes=2 + hour // 2, begin_ns=BEGIN_NS + hour * HOUR_NS)
    compact(str(tmp_path), older_than_ns=0, now_ns=lambda: BEGIN_NS + _DAY_NS)
    found = sorted(map(str, tmp_path.glob("duration.*.parquet")))
    assert len(found) == 3
    return found


def _placed(paths: list[str]) -> Rows:
    rows = read_placed(paths, lambda: None)
    assert rows is not None
    return rows


def _one_by_one(paths: list[str]) -> Rows:
    return join([part for path in paths for part in read_archive(path)])


def _assert_equal(ours: Rows, others: Rows) -> None:
    assert (ours.labels, ours.processes) == (others.labels, others.processes)
    for name in _COLUMNS:
        np.testing.assert_array_equal(getattr(ours, name), getattr(others, name), strict=True)


@_compiled
def test_rows_are_in_the_order_of_a_stable_sort_by_label_and_process(paths: list[str]) -> None:
    rows = _one_by_one(paths)
    order = np.lexsort((rows.process_codes, rows.label_codes))
    assert (np.diff(order) < 0).any()
    _assert_equal(_placed(paths), rows[order])


@_compiled
def test_tables_copy_nothing_of_them(paths: list[str]) -> None:
    rows = _placed(paths)
    cells, others = Cells(rows), Cells(_one_by_one(paths))
    assert np.shares_memory(cells.timepoints_ns, rows.timepoints_ns)
    assert np.shares_memory(cells.measurements, rows.measurements)
    for name in ("counts", "label_codes", "process_codes", "timepoints_ns", "measurements"):
        np.testing.assert_array_equal(getattr(cells, name), getattr(others, name))


@_compiled
def test_rows_are_the_same_in_several_threads_and_in_one(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for processors in (1, 4):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=processors: set(range(n)))
        found.append(_placed(paths))
    _assert_equal(*found)


def test_archives_that_are_too_many_for_counting_are_read_one_by_one(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MAX_COUNTED", 3)
    assert read_placed(paths, lambda: None) is None
    _assert_equal(read_published(*_split(paths)), _one_by_one(paths))


def test_rows_are_read_without_the_extension(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "compiled", None)
    assert read_placed(paths, lambda: None) is None
    _assert_equal(read_published(*_split(paths)), _one_by_one(paths))


def test_an_archive_with_damaged_times_is_reported_and_the_others_are_read(
    paths: list[str],
) -> None:
    with open(paths[1], "r+b") as file:  # the first column, behind the magic number
        file.seek(4)
        file.write(bytes(64))
    with pytest.raises(ArchiveError):
        read_archive(paths[1])
    reported: list[tuple[str, str]] = []
    directory, names = _split(paths)
    rows = read_published(directory, names, leave_out=lambda *why: reported.append(why))
    _assert_equal(rows, _one_by_one([paths[0], paths[2]]))
    ((name, reason),) = reported
    assert name == names[1]
    assert "it is damaged" in reason


@_compiled
def test_columns_of_different_lengths_are_damage(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "aqltelemetry.reading.archives.placed.read_columns",
        lambda path: [each for each in archive_rows.read_columns(path) for _ in range(2)],
    )
    with pytest.raises(ArchiveError, match="different lengths"):
        _placed(paths)


@_compiled
def test_archives_without_rows_have_none(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("read_keys", "read_columns"):
        monkeypatch.setattr(f"aqltelemetry.reading.archives.placed.{name}", lambda _: [])
    assert len(_placed(paths)) == 0


def test_files_that_are_left_out_are_not_in_the_rows(paths: list[str]) -> None:
    first = members_of(paths[0])[0].name
    directory, names = _split(paths)
    every = read_published(directory, names)
    rows = read_published(directory, [f"{names[0]}/{first.writer}", *names[1:]])
    left_out = sum(each.rows for each in members_of(paths[0]) if each.name.writer != first.writer)
    assert 0 < left_out == len(every) - len(rows)


def test_progress_is_reported_for_each_archive(paths: list[str]) -> None:
    reported: list[tuple[int, int]] = []
    read_published(*_split(paths), progress=lambda *numbers: reported.append(numbers))
    assert reported == [(1, 3), (2, 3), (3, 3)]


def _split(paths: list[str]) -> tuple[str, list[str]]:
    return os.path.dirname(paths[0]), [os.path.basename(path) for path in paths]
