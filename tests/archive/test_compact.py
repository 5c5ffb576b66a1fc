"""Archived files are read, counted and shown as before, whatever else happens meanwhile."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from aqltelemetry import TelemetryDB
from aqltelemetry.archive import compact as module
from aqltelemetry.archive.compact import LOCK_NAME, Compacted
from aqltelemetry.audit.verify import Verdict, verify
from aqltelemetry.commands.cli import main
from aqltelemetry.errors import ArchiveBusyError
from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.csv_frames import ForeignFileWarning
from aqltelemetry.reading.rows import Rows
from aqltelemetry.shipping.ledger import Ledger, PlannedFile
from aqltelemetry.shipping.ledger_lock import STATE_DIRECTORY
from aqltelemetry.sinks.archives import is_archive, read_members
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system import syscalls
from aqltelemetry.views.live.new_rows import NewRows
from interleaving import Turns
from segments import BEGIN_NS, HOUR_NS, LABELS, S, observations, record, rows_of, tables

pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice")
_LATER_NS = BEGIN_NS + 30 * HOUR_NS


def compact(
    directory: Path, age_ns: int = HOUR_NS, to: Path | None = None, *, now_ns: int = _LATER_NS
) -> Compacted:
    target = None if to is None else str(to)
    return module.compact(str(directory), older_than_ns=age_ns, to=target, now_ns=lambda: now_ns)


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir() if each.name != LOCK_NAME)


def proved(directory: Path) -> list[Verdict]:
    verdicts = list(verify(directory, []))
    assert [verdict.problems for verdict in verdicts if verdict.problems] == []
    assert all(verdict.is_accounted_for for verdict in verdicts)
    return verdicts


def same_tables(one: TelemetryDB, other: TelemetryDB) -> None:
    for table, expected in zip(tables(one), tables(other), strict=True):
        pd.testing.assert_frame_equal(table, expected)


def test_all_views_and_the_proof_are_the_same_afterwards(tmp_path: Path) -> None:
    csv = record(tmp_path / "csv")
    archived = Path(shutil.copytree(csv, tmp_path / "archived"))
    done = compact(archived)
    assert all(map(is_archive, names(archived)))
    assert (done.files, done.rows, done.archives) == (48, len(_lines(csv)), 4)
    assert observations(TelemetryDB(archived)) == observations(TelemetryDB(csv))
    same_tables(TelemetryDB(archived), TelemetryDB(csv))
    assert proved(archived) == proved(csv)
    assert TelemetryDB(archived).not_read() == []


def test_archives_of_earlier_versions_are_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = record(tmp_path / "csv")
    archived = Path(shutil.copytree(csv, tmp_path / "archived"))
    table = encoding.table

    def with_integers(rows: Rows, *, for_archive: bool, **options: Any) -> object:
        assert for_archive
        return table(rows, **options)

    monkeypatch.setattr(encoding, "table", with_integers)
    compact(archived)
    (path,) = archived.glob("duration.*.parquet")
    assert parquet.read_schema(path).field("value_ns").type == pa.int64()
    assert observations(TelemetryDB(archived)) == observations(TelemetryDB(csv))
    assert proved(archived) == proved(csv)


def _lines(directory: Path) -> list[str]:
    texts = [path.read_text().splitlines()[1:] for path in directory.glob("*.csv")]
    return [line for lines in texts for line in lines]


@pytest.mark.parametrize("part", ["archived", "mixed"])
@pytest.mark.parametrize(
    "limits",
    [
        {"since": BEGIN_NS + 90 * S},
        {"until": BEGIN_NS + 200 * S},
        {"since": BEGIN_NS + 90 * S, "until": BEGIN_NS + 91 * S},
        {"labels": LABELS[1]},
        {"labels": ["nothing", LABELS[3]], "pids": 101},
        {"pids": [7]},
        {"since": BEGIN_NS + 99 * HOUR_NS},
    ],
)
def test_limits_apply_to_archives_too(tmp_path: Path, limits: dict[str, object], part: str) -> None:
    csv = record(tmp_path / "csv")
    found = Path(shutil.copytree(csv, tmp_path / "found"))
    compact(found, age_ns=1, now_ns=_LATER_NS if part == "archived" else BEGIN_NS + 200 * S)
    assert any(map(is_archive, names(found)))
    expected = TelemetryDB(csv, **limits)  # type: ignore[arg-type]
    got = TelemetryDB(found, **limits)  # type: ignore[arg-type]
    for prefix in ("duration", "runtime", "account"):
        assert rows_of(got, prefix) == rows_of(expected, prefix)


def test_sql_reads_files_and_archives_alike(tmp_path: Path) -> None:
    csv = record(tmp_path / "csv")
    mixed = Path(shutil.copytree(csv, tmp_path / "mixed"))
    compact(mixed, age_ns=1, now_ns=BEGIN_NS + 200 * S)
    query = "select Label, count(*) n, max(Measurement) m from duration group by 1 order by 1"
    pd.testing.assert_frame_equal(TelemetryDB(mixed).sql(query), TelemetryDB(csv).sql(query))


def test_only_row_groups_that_may_contain_a_label_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqltelemetry.reading.archives.encoding.GROUP_ROWS", 60)
    directory = record(tmp_path / "csv")
    compact(directory)
    read: list[int] = []
    whole = parquet.ParquetFile.read_row_group

    def counted(self: object, group: int, *arguments: object, **options: object) -> object:
        read.append(group)
        return whole(self, group, *arguments, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", counted)
    db = TelemetryDB(directory, labels=LABELS[1], until=BEGIN_NS + 61 * S)
    assert len(db.duration().data())
    assert 0 < len(read) < 16 / 4


def test_a_loaded_database_counts_a_file_once_that_becomes_archived(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    db = TelemetryDB(directory)
    before = observations(db)
    record(directory, seed=1, segments=3)
    compact(directory, age_ns=1, now_ns=BEGIN_NS + 200 * S)
    db.refresh()
    expected = observations(TelemetryDB(directory))
    assert observations(db) == expected != before
    compact(directory)
    db.refresh()
    assert observations(db) == expected


def test_a_file_that_is_archived_between_listing_and_reading_is_read(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    expected = rows_of(TelemetryDB(directory), "duration")
    db = TelemetryDB(directory, live=True, journal_dir=str(tmp_path / "journal"))
    db.prefixes()  # lists the directory
    compact(directory)
    assert rows_of(db, "duration") == expected
    db.refresh()
    assert rows_of(db, "duration") == expected


@pytest.mark.parametrize("since_ns", [None, BEGIN_NS + 150 * S, BEGIN_NS + 50 * HOUR_NS])
def test_a_live_view_gets_each_row_once(tmp_path: Path, since_ns: int | None) -> None:
    directory = record(tmp_path / "csv")
    rows = NewRows(
        [str(directory)], ["duration"], since_ns=since_ns, journal_dir=str(tmp_path / "j")
    )
    got = sum(len(each) for _, each in rows.read())
    compact(directory, age_ns=1, now_ns=BEGIN_NS + 200 * S)
    record(directory, seed=1, segments=3)
    got += sum(len(each) for _, each in rows.read())
    compact(directory)
    got += sum(len(each) for _, each in rows.read())
    while rows.older:
        got += sum(len(each) for _, each in rows.read_older(3))
    assert got == len(rows_of(TelemetryDB(directory), "duration"))


def test_files_are_archived_by_hour_and_when_their_hour_is_old_enough(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", processes=1, segments=6, every_ns=HOUR_NS // 2)
    before = set(names(directory))
    compact(directory, now_ns=BEGIN_NS + 2 * HOUR_NS - 1)
    assert set(names(directory)) == before
    compact(directory, now_ns=BEGIN_NS + 3 * HOUR_NS + HOUR_NS // 2)
    kept = [name for name in names(directory) if not is_archive(name)]
    assert len(kept) == len(before) // 3
    assert len(names(directory)) - len(kept) == 2 * 4
    proved(directory)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    before = names(directory)
    done = module.compact(
        str(directory), older_than_ns=HOUR_NS, dry_run=True, now_ns=lambda: _LATER_NS
    )
    assert (done.files, done.archives) == (48, 4)
    assert names(directory) == before
    assert not (directory / LOCK_NAME).exists()


def test_only_one_process_makes_archives_of_a_directory(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    syscalls.lock(fd)
    with pytest.raises(ArchiveBusyError, match="another process"):
        compact(directory)
    os.close(fd)
    assert compact(directory).files == 48


def test_a_file_that_is_published_again_is_left_out_and_removed(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    expected = observations(TelemetryDB(directory))
    compact(directory)
    again = sorted(copy.glob("*.csv"))[::5]
    for path in again:
        shutil.copy(path, directory)
    assert observations(TelemetryDB(directory)) == expected
    assert {each.is_lost for each in TelemetryDB(directory).not_read()} <= {False}
    proved(directory)
    assert compact(directory).removed == len(again)
    assert all(map(is_archive, names(directory)))


def test_a_file_that_is_still_to_be_shipped_stays_in_its_directory(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", processes=1)
    files = sorted(path.name for path in directory.glob("*.csv"))
    with Ledger(str(directory / STATE_DIRECTORY / "x.sqlite"), "somewhere") as ledger:
        ledger.arrived([PlannedFile(name, 1) for name in files[:-3]], 1)
    there = tmp_path / "there"
    there.mkdir()
    done = compact(directory, to=there)
    assert (done.files, done.waiting) == (len(files) - 3, 3)
    assert [name for name in names(directory) if name in files] == files[-3:]
    proved(directory)
    # From an archive that is here, it is shipped as well.
    done = compact(directory)
    assert (done.files, done.waiting) == (3, 0)


def test_compressed_files_are_archived(tmp_path: Path) -> None:
    import gzip

    directory = record(tmp_path / "csv")
    expected = observations(TelemetryDB(directory))
    for path in sorted(directory.glob("*.csv"))[::2]:
        (directory / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert compact(directory).files == 48
    assert observations(TelemetryDB(directory)) == expected
    proved(directory)


@pytest.mark.parametrize("text", [b"", CSV_HEADER + b"1,2,x\n", CSV_HEADER + b"1,2,x,1\n1"])
def test_a_damaged_file_stays_as_it_is(tmp_path: Path, text: bytes) -> None:
    directory = record(tmp_path / "csv")
    damaged = sorted(directory.glob("duration.*.csv"))[3]
    damaged.write_bytes(text)
    assert list(compact(directory).left) == [damaged.name]
    assert damaged.read_bytes() == text
    assert any(verdict.problems for verdict in verify(directory, []))


def test_a_file_whose_account_is_not_published_yet_stays(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", processes=1)
    account = sorted(directory.glob("account.*.csv"))[2]
    text = account.read_bytes()
    account.unlink()
    compact(directory)
    assert len([name for name in names(directory) if not is_archive(name)]) == 3
    account.write_bytes(text)
    compact(directory)
    assert all(map(is_archive, names(directory)))
    proved(directory)


def test_archives_may_be_in_another_directory(tmp_path: Path) -> None:
    directory, to = record(tmp_path / "csv"), tmp_path / "to"
    to.mkdir()
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    expected = observations(TelemetryDB(directory))
    compact(directory, to=to)
    assert names(directory) == names(to)
    assert all((directory / name).is_symlink() for name in names(directory))
    assert observations(TelemetryDB(directory)) == expected
    assert observations(TelemetryDB([directory, to])) == expected
    for together in (directory, to, [directory, to]):
        verdicts = verify(together, [])
        assert all(each.is_accounted_for and not each.problems for each in verdicts)
        assert sum(each.rows for each in verdicts) == len(_lines(copy)) - len(_accounts(copy))
    shutil.copy(sorted(copy.glob("duration*"))[3], directory)
    assert observations(TelemetryDB([directory, to])) == expected
    assert observations(TelemetryDB([to, directory])) == expected
    assert compact(directory, to=to).removed == 1


def _accounts(directory: Path) -> list[str]:
    texts = [path.read_text().splitlines()[1:] for path in directory.glob("account.*.csv")]
    return [line for lines in texts for line in lines]


def test_archives_of_one_directory_are_not_those_of_another_one(tmp_path: Path) -> None:
    one, other, to = record(tmp_path / "1"), record(tmp_path / "2", seed=9), tmp_path / "to"
    to.mkdir()
    expected = observations(TelemetryDB(one))
    compact(one, to=to)
    compact(other, to=to)
    assert observations(TelemetryDB(one)) == expected
    assert len(names(to)) == 8


def test_a_kill_between_an_archive_and_its_link_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, to = record(tmp_path / "csv"), tmp_path / "to"
    to.mkdir()
    expected = observations(TelemetryDB(directory))
    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "link_by_name", _fails)
        with pytest.raises(OSError, match="no links here"):
            compact(directory, to=to)
    assert len(names(to)) == 1
    assert observations(TelemetryDB([directory, to])) == expected
    compact(directory, to=to)
    assert len(names(directory)) == 4
    assert observations(TelemetryDB(directory)) == expected
    proved(directory)


def _fails(*_: object) -> None:
    raise OSError("no links here")


def test_archives_on_a_disk_that_is_not_mounted_are_named_by_each_reader(tmp_path: Path) -> None:
    directory, to = record(tmp_path / "csv"), tmp_path / "to"
    to.mkdir()
    expected = observations(TelemetryDB(directory))
    compact(directory, to=to)
    moved = to.rename(tmp_path / "moved")
    db = TelemetryDB(directory)
    with pytest.warns(ForeignFileWarning, match="to, which can't be read"):
        assert len(db.duration().data()) == 0
    (not_read,) = db.not_read()
    assert (not_read.is_lost, not_read.reason) == (True, f"it is in {to}, which can't be read")
    found = CliRunner().invoke(main, ["verify", str(directory)])
    assert found.exit_code == 3
    assert "4 archives can't be read, such as account" in found.output
    assert f"it is in {to}, which can't be read" in found.output
    together = CliRunner().invoke(main, ["verify", str(directory), str(moved)])
    assert (together.exit_code, together.output.splitlines()[-1]) == (0, "all is explained")
    assert observations(TelemetryDB([directory, moved])) == expected
    compact(directory, to=moved)
    assert observations(TelemetryDB(directory)) == expected
    assert len(proved(directory)) == 2


def test_retention_removes_links_to_archives_and_keeps_those_that_it_cannot_read(
    tmp_path: Path,
) -> None:
    directory, to = record(tmp_path / "csv", every_ns=HOUR_NS), tmp_path / "to"
    to.mkdir()
    compact(directory, to=to, now_ns=BEGIN_NS + 9 * HOUR_NS)
    there = names(to)
    now_ns = BEGIN_NS + 8 * HOUR_NS
    retention = Retention(
        str(directory), 1 << 40, 4 * 3600, now_ns=lambda: now_ns, start=lambda _: None
    )
    away = to.rename(tmp_path / "away")
    retention.sweep()
    assert (retention.removed, names(directory)) == (0, there)
    away.rename(to)
    retention.sweep()
    assert 0 < len([name for name in names(directory) if is_archive(name)]) < len(there)
    assert names(to) == there
    proved(directory)


@pytest.mark.parametrize("at", [0.2, 0.5])
def test_a_damaged_archive_is_reported(tmp_path: Path, at: float) -> None:
    directory = record(tmp_path / "csv", rows=500)
    compact(directory)
    (path,) = directory.glob("duration.*.parquet")
    data = bytearray(path.read_bytes())
    for place in range(int(len(data) * at), int(len(data) * at) + 100):
        data[place] ^= 0xFF
    path.write_bytes(data)
    assert any(verdict.problems for verdict in verify(directory, []))


def test_a_truncated_archive_is_left_out_with_a_warning(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    compact(directory)
    (path,) = directory.glob("duration.*.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    db = TelemetryDB(directory)
    with pytest.warns(ForeignFileWarning, match="not a Parquet file, or truncated"):
        assert len(db.duration().data()) == 0
    assert [each.name for each in db.not_read()] == [path.name]
    with pytest.raises(OSError, match="truncated"):
        verify(directory, [])


def test_the_list_of_files_names_rows_and_checksums(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv")
    files = sorted(path.name for path in directory.glob("duration.*.csv"))
    compact(directory)
    (path,) = directory.glob("duration.*.parquet")
    members = read_members(str(path))
    assert [str(member.name) for member in members] == files
    assert {member.rows for member in members} == {20 * len(LABELS)}
    assert len({member.checksum for member in members}) == len(files)


def test_retention_removes_archives_with_an_account_of_them(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", every_ns=HOUR_NS)
    compact(directory, now_ns=BEGIN_NS + 9 * HOUR_NS)
    retention = Retention(
        str(directory),
        1 << 40,
        4 * 3600,
        now_ns=lambda: BEGIN_NS + 8 * HOUR_NS,
        start=lambda _: None,
    )
    retention.sweep()
    gone = 24 - len([name for name in names(directory) if is_archive(name)])
    assert 0 < gone < 24
    assert retention.removed == gone * 2
    verdicts = proved(directory)
    assert sum(verdict.removed for verdict in verdicts) > 0


def test_retention_counts_the_bytes_of_archives(tmp_path: Path) -> None:
    directory = record(tmp_path / "csv", every_ns=HOUR_NS)
    compact(directory, now_ns=BEGIN_NS + 9 * HOUR_NS)
    total = sum(path.stat().st_size for path in directory.glob("*.parquet"))
    retention = Retention(
        str(directory), total // 2, 1e9, now_ns=lambda: _LATER_NS, start=lambda _: None
    )
    retention.sweep()
    left = sum(path.stat().st_size for path in directory.glob("*.parquet"))
    assert 0 < left <= total // 2
    proved(directory)


@pytest.mark.parametrize("seed", range(6))
def test_a_reader_gets_each_row_once_while_files_are_archived(tmp_path: Path, seed: int) -> None:
    directory = record(tmp_path / "csv", segments=3, rows=2)
    expected = rows_of(TelemetryDB(directory), "duration")
    turns = Turns(random.Random(seed), 0.3)
    db = TelemetryDB(directory, live=True, journal_dir=str(tmp_path / "journal"))
    with turns.at_each_call(), turns.process(lambda: _ignore(compact(directory))) as is_running:
        while True:
            runs_on = is_running()
            once = TelemetryDB(directory)
            assert rows_of(once, "duration") == expected
            db.refresh()
            assert rows_of(db, "duration") == expected
            assert np.isfinite(proved(directory)[0].rows)
            if not runs_on:
                break
    assert all(map(is_archive, names(directory)))


def _ignore(_: object) -> None:
    pass
