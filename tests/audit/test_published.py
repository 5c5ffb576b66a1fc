from __future__ import annotations

from collections import Counter
from pathlib import Path

from aqltelemetry import Monitor, record, time_block
from aqltelemetry.archive.compact import compact
from aqltelemetry.audit import published
from aqltelemetry.sinks.file_names import writer as writer_of
from segments import record as record_segments

_STAMPS = "20261123T201825123456-20261123T201925654321"
_HEADER = "Timepoint,Measurement,Label,PID\n"


def _write(directory: Path, prefix: str, writer: str, *rows: str) -> str:
    name = f"{prefix}.{_STAMPS}.7-{writer * 16}.000001-000001-0.csv"
    (directory / name).write_text(_HEADER + "".join(f"{row},7\n" for row in rows))
    return name


async def test_observations_are_counted_by_prefix_and_process(directory: Path) -> None:
    async with Monitor(directory, with_runtime=False):
        for _ in range(3):
            with time_block('a label with ","'):
                pass
        record("own", 1)
    found = published.count(str(directory), published.names(str(directory)))
    assert found.rows == {"duration": 3, "custom": 1}
    assert (found.files, len(found.processes), found.dropped) == (2, 1, 0)


def test_drops_are_totals_of_each_process_and_reason(tmp_path: Path) -> None:
    names = [
        _write(tmp_path, "account", "a", "2,9,accepted", "2,5,dropped no segment"),
        _write(tmp_path, "account", "b", "3,9,accepted", "3,1,dropped no segment"),
        _write(tmp_path, "account", "c", "1,9,accepted", "1,1,dropped torn"),
    ]
    again = _STAMPS.replace("2018", "2019")
    (tmp_path / names[0].replace(_STAMPS, again)).write_text(
        _HEADER + "9,9,accepted,7\n9,8,dropped no segment,7\n9,2,dropped busy,7\n"
    )
    found = published.count(str(tmp_path), published.names(str(tmp_path)))
    assert (found.dropped, found.files) == (8 + 2 + 1 + 1, 0)


def test_drops_of_a_forked_child_count_once(tmp_path: Path) -> None:
    """Each of its segments has its own writer, and all report the same totals."""
    for writer, drops in ("a", 3), ("b", 5):
        rows = ("2,9,accepted", "2,77,child", f"2,{drops},dropped no segment")
        _write(tmp_path, "account", writer, *rows)
    assert published.count(str(tmp_path), published.names(str(tmp_path))).dropped == 5


def test_a_damaged_account_counts_nothing(tmp_path: Path) -> None:
    _write(tmp_path, "account", "a", "2,x,accepted")
    _write(tmp_path, "account", "b", "2,3,dropped no segment")
    assert published.count(str(tmp_path), published.names(str(tmp_path))).dropped == 0


def test_foreign_and_missing_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a\nb\n")
    name = _write(tmp_path, "duration", "a", "1,1.0,x")
    assert published.names(str(tmp_path)) == [name]
    (tmp_path / name).unlink()
    assert published.count(str(tmp_path), [name, "notes.csv"]).rows == Counter()


def test_files_in_archives_count_like_others(tmp_path: Path) -> None:
    directory = record_segments(tmp_path / "csv")
    names = published.names(str(directory))
    expected = published.count(str(directory), names)
    compact(str(directory), older_than_ns=0)
    assert not list(directory.glob("*.csv"))
    assert published.names(str(directory)) == names
    assert published.count(str(directory), names) == expected
    assert expected.dropped > 0
    writer = writer_of(names[0])
    chosen = [name for name in names if writer_of(name) == writer]
    assert published.names(str(directory), writer[:6]) == names
    assert published.names(str(directory), writer) == chosen
    assert published.count(str(directory), chosen).processes == {(100, writer)}


def test_a_missing_directory_has_no_names(tmp_path: Path) -> None:
    assert published.names(str(tmp_path / "none")) == []
