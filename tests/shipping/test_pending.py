from __future__ import annotations

import gzip
from collections.abc import Collection
from pathlib import Path

import pytest

from aqltelemetry.shipping.pending import Book, PendingFile, list_present, pending, plans
from aqltelemetry.sinks.file_names import parse
from aqltelemetry.sinks.removals import Removals
from fakes import EPOCH_NS
from memory_destination import publish


class _Book:
    """A ledger that knows some files."""

    def __init__(self, *names: str) -> None:
        self.names = {*names}
        self.archives: dict[str, Collection[str]] = {}

    def known(self, names: Collection[str]) -> set[str]:
        return self.names.intersection(names)

    def done_archives(self, names: Collection[str]) -> set[str]:
        return self.archives.keys() & names

    def note_archive(self, name: str, members: Collection[str]) -> None:
        self.archives[name] = members


def _pending(directory: Path, book: Book | None = None) -> list[PendingFile]:
    def fail(path: str, reason: str) -> None:
        pytest.fail(f"{path} {reason}")

    return pending(list_present([str(directory)]), book or _Book(), fail)


def _names(directory: Path, max_files: int = 100, max_bytes: int = 1 << 20) -> list[list[str]]:
    found = _pending(directory)
    return [[file.name for file in plan.files] for plan in plans(found, max_files, max_bytes)]


def test_the_files_of_a_writer_are_in_the_order_of_their_segments(directory: Path) -> None:
    names = [publish(directory, segment) for segment in (9, 10, 11, 100)]
    assert _names(directory) == [names]


def test_files_of_several_writers_are_merged_by_time(directory: Path) -> None:
    names = [publish(directory, n, writer="ab"[n % 2] * 16) for n in range(1, 7)]
    assert _names(directory) == [names]


def test_a_shipment_has_files_of_one_prefix_and_accounts_are_last(directory: Path) -> None:
    account = publish(directory, prefix="account")
    runtime = publish(directory, prefix="runtime")
    duration = publish(directory)
    assert _names(directory) == [[duration], [runtime], [account]]


def test_a_shipment_is_limited_by_files_and_by_bytes(directory: Path) -> None:
    names = [publish(directory, segment) for segment in range(1, 6)]
    assert _names(directory, max_files=2) == [names[:2], names[2:4], names[4:]]
    assert _names(directory, max_bytes=1) == [[name] for name in names]


def test_the_id_of_a_shipment_follows_from_its_files(directory: Path) -> None:
    publish(directory, 1)
    found = _pending(directory)
    (one,), (again,) = plans(found, 9, 99), plans(found, 9, 99)
    assert one.id == again.id
    assert len(one.id) == 32
    publish(directory, 2)
    (other,) = plans(_pending(directory), 9, 9999)
    assert other.id != one.id


def test_known_files_other_files_and_accounts_of_removed_files_are_left_out(
    directory: Path,
) -> None:
    known, new = publish(directory, 1), publish(directory, 2)
    removals = Removals(str(directory))
    name = parse(known)
    assert name is not None
    removals.publish([(name, 1)], 1, EPOCH_NS)
    (directory / "duration.csv").write_text("Timepoint,Measurement,Label,PID\n")
    (directory / ".ship").mkdir()
    publish(directory / ".ship", 3)
    present = list_present([str(directory)])
    assert set(present.paths) == {known, new}
    assert [file.published for file in _pending(directory, _Book(known))] == [new]


def test_a_compressed_file_is_the_file_that_it_was(directory: Path) -> None:
    name = publish(directory)
    path = directory / name
    Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert list_present([str(directory)]).paths == {name: f"{path}.gz"}


def test_a_directory_that_cannot_be_read_does_not_stop_the_others(directory: Path) -> None:
    name = publish(directory)
    present = list_present([str(directory / "missing"), str(directory)])
    assert set(present.paths) == {name}
    assert present.unreadable == {str(directory / "missing"): "No such file or directory"}
