"""Files that were archived are shipped like the CSV files that they were."""

from __future__ import annotations

import csv
import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from aqltelemetry.archive.compact import compact
from aqltelemetry.errors import LedgerError
from aqltelemetry.shipping.archived import Unpacker
from aqltelemetry.shipping.destination import Receipt, Shipment, ShippedFile
from aqltelemetry.shipping.file_rows import read_rows
from aqltelemetry.shipping.ledger import Ledger, PlannedFile
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.pending import list_present, pending, remembered
from aqltelemetry.shipping.run import Job
from aqltelemetry.shipping.shipper import GaveUp, Shipper, Surroundings
from aqltelemetry.shipping.status import behind
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks import archives
from aqltelemetry.sinks.archives import Member, read_members
from aqltelemetry.system import syscalls
from memory_destination import AWAY, MemoryDestination, ledger, publish
from segments import BEGIN_NS, HOUR_NS, record
from servers import wait_until


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with ledger(tmp_path) as made:
        yield made


@pytest.fixture
def there() -> MemoryDestination:
    return MemoryDestination()


def _archive(directory: Path) -> None:
    compact(str(directory), older_than_ns=0)


def _shipper(directory: Path, book: Ledger, there: MemoryDestination, **more: int) -> Shipper:
    async def no_wait(_: float) -> None:
        pass

    around = Surroundings(now_ns=lambda: BEGIN_NS, sleep=no_wait, **more)  # type: ignore[arg-type]
    return Shipper([str(directory)], book, there, around)


def _rows(text: bytes) -> list[tuple[str, str, str, str]]:
    """Return the rows of a file in order, with numbers as they are compared."""
    rows = csv.reader(text.decode().splitlines())
    return sorted((at, repr(float(value)), label, pid) for at, value, label, pid in rows)


def _published(directory: Path) -> dict[str, list[tuple[str, str, str, str]]]:
    return {
        name: _rows(read_rows(ShippedFile(name, path)))
        for name, path in list_present([str(directory)]).paths.items()
    }


def _arrived(there: MemoryDestination) -> dict[str, list[tuple[str, str, str, str]]]:
    return {name: _rows(text) for name, text in there.rows.items()}


def test_files_in_an_archive_become_the_same_text_again(tmp_path: Path) -> None:
    csv_files = record(tmp_path / "csv")
    archived = Path(shutil.copytree(csv_files, tmp_path / "archived"))
    _archive(archived)
    present = list_present([str(archived)])
    assert not present.paths
    names = {path.name for path in csv_files.iterdir()}
    made, refused = Unpacker(str(tmp_path / "made")).unpack(present.archived(names))
    assert made.keys() == names
    assert not refused
    for name in names:
        text, again = ((path / name).read_bytes() for path in (csv_files, tmp_path / "made"))
        assert sorted(again.splitlines()) == sorted(text.splitlines())


async def test_a_directory_of_archives_is_shipped_once_each_file_by_its_name(
    tmp_path: Path, directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    record(directory)
    expected = _published(directory)
    _archive(directory)
    record(directory, begin_ns=BEGIN_NS + HOUR_NS, seed=1)
    expected |= _published(directory)
    for _ in range(2):
        await _shipper(directory, book, there).ship()
        sent = [file.name for each in there.shipments for file in each.files]
        assert sorted(sent) == sorted(expected)
        _archive(directory)
    assert _arrived(there) == expected
    totals = book.totals()
    assert (totals.files, totals.rows) == (len(expected), sum(map(len, expected.values())))
    assert totals.gone == totals.refused == 0
    assert not [*tmp_path.glob("*.files")]


async def test_progress_is_that_of_the_sizes_that_were_announced(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    record(directory, processes=1, segments=2)
    _archive(directory)
    begun: list[int] = []
    advanced: list[int] = []
    around = Surroundings(begin=begun.append, advance=advanced.append)
    shipper = Shipper([str(directory)], book, there, around)
    await shipper.ship()
    assert begun == [sum(advanced)]
    assert shipper.done.bytes == book.totals().bytes != sum(advanced)


async def test_files_of_a_writer_are_in_order_across_archives_and_csv_files(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    names = [publish(directory, segment) for segment in (1, 2)]
    compact(str(directory), older_than_ns=0)
    assert list_present([str(directory)]).paths, "without an account, they are not archived"
    record(directory, processes=1, segments=3)
    _archive(directory)
    record(directory, processes=1, segments=6)  # the first three are in archives
    await _shipper(directory, book, there).ship()
    sent = [file.name for each in there.shipments for file in each.files]
    assert len(sent) == len({*sent}) == 2 + 4 * 6
    for prefix in ("duration", "runtime", "custom", "account"):
        of_prefix = [name for name in sent if name.startswith(prefix) and name not in names]
        assert of_prefix == sorted(of_prefix)


class _Cut(MemoryDestination):
    """Is away at the n-th call of `ship`, before or after it has stored the shipment."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_left = -1
        self.is_stored = False

    async def ship(self, shipment: Shipment) -> Receipt:
        self.calls_left -= 1
        if not self.calls_left:
            (self.after if self.is_stored else self.failures).append(AWAY)
        return await super().ship(shipment)


async def test_a_shipment_is_sent_again_alike_if_its_files_were_archived_after_a_kill(
    directory: Path, tmp_path: Path
) -> None:
    """Wherever it was killed, whether or not the shipment had arrived, however much is archived."""
    chance = random.Random(7)
    there = _Cut()
    there.has_ledger = False
    record(directory, processes=2, segments=5, rows=5)
    expected = _published(directory)
    archived_ns, cuts = BEGIN_NS, 0
    while there.rows.keys() != expected.keys():
        there.calls_left, there.is_stored = chance.randrange(1, 4), chance.random() < 0.5
        with ledger(tmp_path) as book, suppress(GaveUp):
            await _shipper(directory, book, there, attempts=1).ship()
        archived_ns += chance.randrange(60 * 10**9)
        compact(str(directory), older_than_ns=0, now_ns=partial(int, archived_ns))
        cuts += 1
    assert cuts > 3
    with ledger(tmp_path) as book:
        await _shipper(directory, book, there).ship()
        totals = book.totals()
    assert (totals.files, totals.rows) == (len(expected), sum(map(len, expected.values())))
    assert totals.gone == 0
    assert _arrived(there) == expected
    composed = {each.id: {file.name for file in each.files} for each in there.shipments}
    assert sum(map(len, composed.values())) == len(expected), "no file is in two shipments"


async def test_a_file_that_is_archived_between_listing_and_reading_is_sent(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    record(directory, processes=1, segments=2)
    expected = _published(directory)
    opened = there.open

    async def archive() -> None:
        _archive(directory)
        await opened()

    there.open = archive  # type: ignore[method-assign]
    there.has_ledger = False
    await _shipper(directory, book, there).ship()
    assert _arrived(there) == expected
    assert book.totals().gone == 0


async def test_an_archive_is_read_no_further_once_all_of_it_is_shipped(
    directory: Path, book: Ledger, there: MemoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the ledger has forgotten its files."""
    record(directory, processes=1, segments=2)
    _archive(directory)
    await _shipper(directory, book, there).ship()
    present = list_present([str(directory)])
    assert remembered(present, book) == set()
    book.forget(BEGIN_NS + 1, set(), present.archives.keys())
    assert book.known([str(each.name) for each in _members(directory)]) == set()
    monkeypatch.setattr("aqltelemetry.shipping.pending.members_of", pytest.fail)
    await _shipper(directory, book, there).ship()
    with LedgerReader(book.path) as reader:
        assert behind(str(directory), reader).files == 0
    book.forget(BEGIN_NS + 1, set(), ())
    assert book.done_archives(present.archives.keys()) == set()


def _members(directory: Path) -> list[Member]:
    return [each for path in directory.glob("*.parquet") for each in read_members(str(path))]


def test_files_of_an_archive_that_is_not_done_are_never_forgotten(
    directory: Path, book: Ledger
) -> None:
    record(directory, processes=1, segments=2)
    _archive(directory)
    names = sorted(str(each.name) for each in _members(directory))
    book.arrived([PlannedFile(name, 1) for name in names[:-1]], 0)
    present = list_present([str(directory)])
    assert [file.published for file in pending(present, book)] == names[-1:]
    book.forget(BEGIN_NS, remembered(present, book), present.archives.keys())
    of_last = {name for name in names[:-1] if name.partition(".")[0] == names[-1].partition(".")[0]}
    assert book.known(names) >= of_last
    assert [file.published for file in pending(present, book)] == names[-1:]


def test_what_is_behind_counts_files_in_archives_with_their_share(
    directory: Path, book: Ledger
) -> None:
    record(directory, processes=1, segments=4)
    _archive(directory)
    size = sum(path.stat().st_size for path in directory.glob("*.parquet"))
    every = behind(str(directory), None)
    assert every.by_prefix == dict.fromkeys(("account", "custom", "duration", "runtime"), 4)
    assert abs(every.bytes - size) <= 16
    names = sorted(str(each.name) for each in _members(directory))
    book.arrived([PlannedFile(name, 1) for name in names if "duration" not in name], 0)
    with LedgerReader(book.path) as reader:
        found = behind(str(directory), reader)
    assert found.by_prefix == {"duration": 4}
    (archive,) = directory.glob("duration*.parquet")
    assert abs(found.bytes - archive.stat().st_size) <= 4


@pytest.mark.parametrize("how", ["footer", "rows", "checksum"])
async def test_a_damaged_archive_is_reported_and_stops_nothing(
    directory: Path,
    book: Ledger,
    there: MemoryDestination,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record(directory, processes=1, segments=2)
    _archive(directory)
    (path,) = directory.glob("duration*.parquet")
    data = path.read_bytes()
    if how == "footer":
        path.write_bytes(data[:-4] + b"torn")
    elif how == "rows":
        path.write_bytes(data[:4] + bytes(400) + data[404:])
    else:
        read = archives.read_members
        monkeypatch.setattr(
            archives,
            "read_members",
            lambda path: [each._replace(checksum=each.checksum ^ 1) for each in read(path)],
        )
    lines: list[str] = []
    shipper = _shipper(directory, book, there)
    shipper._around.report = lines.append
    await shipper.ship()
    assert {name.partition(".")[0] for name in there.rows} >= (
        set() if how == "checksum" else {"account", "custom", "runtime"}
    )
    assert not any(name.startswith("duration") for name in there.rows)
    assert any(str(path) in line for line in lines)
    if how != "footer":
        assert len(book.refused()) == (8 if how == "checksum" else 2)


async def test_an_archive_that_cannot_be_unpacked_now_is_tried_again(
    directory: Path, book: Ledger, there: MemoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(directory, processes=1, segments=2)
    expected = _published(directory)
    _archive(directory)
    write, failures = syscalls.write, [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))] * 2

    def full(fd: int, data: Any) -> int:
        if failures:
            raise failures.pop()
        return write(fd, data)

    monkeypatch.setattr(syscalls, "write", full)
    await _shipper(directory, book, there).ship()
    assert _arrived(there) == expected


def test_only_the_files_of_one_shipment_are_on_the_disk(tmp_path: Path, directory: Path) -> None:
    record(directory, processes=1, segments=4)
    _archive(directory)
    left = tmp_path / "made" / "left"
    left.parent.mkdir()
    left.touch()
    unpacker = Unpacker(str(left.parent))
    assert not left.exists()
    present = list_present([str(directory)])
    names = sorted(str(each.name) for each in _members(directory))
    for wanted in (names[:3], names[2:5], []):
        found = unpacker.unpack(present.archived(wanted))
        assert sorted(found.paths) == wanted
        there = sorted(os.listdir(left.parent))
        assert there == wanted
    unpacker.clear()
    assert not left.parent.exists()


@pytest.mark.system
def test_nothing_is_lost_or_there_twice_after_kills_with_archiving_in_between(
    directory: Path, tmp_path: Path
) -> None:
    """Of a real shipper, killed as soon as a shipment is planned, or the one after it."""
    record(directory, processes=3, segments=20)
    expected = sorted(row for rows in _published(directory).values() for row in rows)
    url = f"file://{tmp_path / 'there'}"
    path = Job([str(directory)], Target(url)).ledger_path
    command = [sys.executable, "-m", "aqltelemetry", "ship", str(directory), "--to", url]
    for number in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(partial(_has_planned, process, path, set(), 1 + number % 2), "a shipment")
        process.kill()
        process.wait()
        archived_ns = BEGIN_NS + (number + 1) * 5 * 60 * 10**9
        compact(str(directory), older_than_ns=0, now_ns=partial(int, archived_ns))
    assert len([*directory.glob("*.parquet")]) > 4
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert sorted(_stored(tmp_path / "there")) == expected
    assert not [*(directory / ".ship").glob("*.files")]


def _has_planned(process: subprocess.Popen[bytes], path: str, seen: set[str], number: int) -> bool:
    """Return whether so many shipments were planned, or the shipper has ended."""
    with suppress(LedgerError), LedgerReader(path) as reader:
        seen.add(reader.planned)
    return len(seen - {""}) >= number or process.poll() is not None


def _stored(root: Path) -> Iterator[tuple[str, str, str, str]]:
    for path in root.rglob("*.parquet"):
        for row in pq.ParquetFile(path).read().to_pylist():
            value = row["value_ns"] / 1e9 if "value_ns" in row else row["value"]
            yield str(row["at_ns"]), repr(value), row["label"], str(row["pid"])
