from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqltelemetry import Monitor, time_block
from aqltelemetry.archive.compact import compact
from aqltelemetry.audit.verify import verify
from aqltelemetry.shipping.ledger import Ledger, PlannedFile
from aqltelemetry.shipping.pending import Present, list_present, pending
from aqltelemetry.shipping.removal import ShippedRemoval
from aqltelemetry.sinks.archives import members_of
from aqltelemetry.system import syscalls
from memory_destination import ledger, publish
from segments import BEGIN_NS, HOUR_NS, record

_S = 1_000_000_000
_DAY_NS = 86_400 * _S


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with ledger(tmp_path) as made:
        yield made


def _shipped(book: Ledger, directory: Path, at_ns: int) -> Present:
    """Note all files as shipped; return them."""
    present = list_present([str(directory)])
    book.arrived([PlannedFile(name, 1) for name in present.paths], at_ns)
    return present


async def _record(directory: Path) -> None:
    async with Monitor(directory):
        for _ in range(10):
            with time_block("work"):
                pass


def _files(directory: Path) -> set[str]:
    return set(list_present([str(directory)]).paths)


def test_only_files_that_were_shipped_long_ago_are_removed(directory: Path, book: Ledger) -> None:
    old, young, refused, new = (publish(directory, number) for number in range(1, 5))
    book.arrived([PlannedFile(old, 1)], 0)
    book.arrived([PlannedFile(young, 1)], 5 * _S)
    book.refuse({refused: "it is damaged"}, 0)
    removal = ShippedRemoval(book, 10, pytest.fail)
    present = list_present([str(directory)])
    assert removal.sweep(present, 10 * _S) == 0
    assert removal.sweep(present, 20 * _S) == 2
    assert _files(directory) == {refused, new}


def test_a_sweep_comes_at_most_every_ten_seconds(directory: Path, book: Ledger) -> None:
    removal = ShippedRemoval(book, 10, pytest.fail)
    removal.sweep(Present({}, {}, {}), 5 * _S)
    publish(directory)
    present = _shipped(book, directory, 0)
    assert removal.sweep(present, 14 * _S) == 0
    assert removal.sweep(present, 15 * _S) == 1


async def test_verify_explains_what_was_removed(directory: Path, book: Ledger) -> None:
    """Files of a recording that goes on, with their accounts, some compressed."""
    await _record(directory)
    paths = _shipped(book, directory, 0).paths
    for path in list(paths.values()):
        if "account" in path:
            Path(f"{path}.gz").write_bytes(gzip.compress(Path(path).read_bytes()))
            Path(path).unlink()
    removal = ShippedRemoval(book, 86_400, pytest.fail)
    present = list_present([str(directory)])
    assert removal.sweep(present, _DAY_NS + 1) == len(paths)
    assert _files(directory) == set()
    assert book.totals().deleted == len(paths)
    await _record(directory)
    verdicts = verify(directory, [directory / ".journal"])
    assert verdicts
    assert all(each.is_accounted_for and not each.problems for each in verdicts)


async def test_a_later_process_publishes_the_account_of_an_earlier_one_again(
    directory: Path, book: Ledger
) -> None:
    await _record(directory)
    now_ns = 2 * _DAY_NS
    for _ in range(3):
        publish(directory, now_ns // _DAY_NS)
        _shipped(book, directory, now_ns - 100 * _S)
        present = list_present([str(directory)])
        assert ShippedRemoval(book, 1, pytest.fail).sweep(present, now_ns) > 0
        now_ns += 2 * _DAY_NS
    assert len([*directory.glob("account.*.csv")]) == 1
    verdicts = verify(directory, [directory / ".journal"])
    assert not [each for each in verdicts if each.problems and each.writer != "a" * 16]


async def test_a_file_that_cannot_be_removed_stays_and_is_not_accounted_for(
    directory: Path, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _record(directory)
    present = _shipped(book, directory, 0)
    stuck = next(path for path in present.paths.values() if "duration" in path)
    unlink = syscalls.unlink

    def refuse(path: str) -> None:
        if path == stuck:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        unlink(path)

    monkeypatch.setattr(syscalls, "unlink", refuse)
    lines: list[str] = []
    removal = ShippedRemoval(book, 1, lines.append)
    assert removal.sweep(present, 2 * _S) == len(present.paths) - 1
    assert lines == [f"{stuck} can't be removed: Operation not permitted"]
    verdicts = verify(directory, [directory / ".journal"])
    assert not [problem for each in verdicts for problem in each.problems]


async def test_nothing_is_removed_where_no_account_can_be_published(
    directory: Path, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _record(directory)
    present = _shipped(book, directory, 0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(syscalls, "open_file", full)
    lines: list[str] = []
    assert ShippedRemoval(book, 1, lines.append).sweep(present, 2 * _S) == 0
    monkeypatch.undo()
    assert _files(directory) == set(present.paths)
    assert lines == [f"{directory}: shipped files can't be removed: No space left on device"]


async def test_an_archive_is_removed_once_all_of_its_files_were_shipped_long_ago(
    directory: Path, book: Ledger
) -> None:
    """As a whole, and `verify` explains each file that was in it."""
    record(directory, processes=1)
    names = _shipped(book, directory, 0).paths.keys()
    late = max(name for name in names if name.startswith("runtime"))
    book.arrived([PlannedFile(late, 1)], 5 * _S)
    compact(str(directory), older_than_ns=0)
    removal = ShippedRemoval(book, 10, pytest.fail)
    present = list_present([str(directory)])
    assert not present.paths
    assert pending(present, book) == []
    assert removal.sweep(present, 13 * _S) == len(names) * 3 // 4
    assert [path.name.partition(".")[0] for path in directory.glob("*.parquet")] == ["runtime"]
    assert removal.sweep(list_present([str(directory)]), 24 * _S) == len(names) // 4
    assert not [*directory.glob("*.parquet")]
    assert book.totals().deleted == len(names)
    record(directory, processes=1, begin_ns=BEGIN_NS + HOUR_NS, seed=1)
    verdicts = verify(directory, [])
    assert verdicts
    assert not [problem for each in verdicts for problem in each.problems]


def test_an_archive_with_a_file_that_was_not_shipped_stays(directory: Path, book: Ledger) -> None:
    record(directory, processes=1)
    for state in ("new", "refused"):
        present = list_present([str(directory)])
        names = sorted(present.paths) or sorted(_archived(present))
        book.arrived([PlannedFile(name, 1) for name in names[:-1]], 0)
        compact(str(directory), older_than_ns=0)
        if state == "refused":
            book.refuse({names[-1]: "no"}, 0)
        present = list_present([str(directory)])
        assert len(pending(present, book)) == (state == "new")
        ShippedRemoval(book, 10, pytest.fail).sweep(present, 24 * _S)
        assert names[-1] in _archived(list_present([str(directory)]))


def _archived(present: Present) -> set[str]:
    return {str(each.name) for path in present.archives.values() for each in members_of(path)}


def test_a_link_to_an_archive_elsewhere_stays(
    directory: Path, tmp_path: Path, book: Ledger
) -> None:
    record(directory, processes=1)
    _shipped(book, directory, 0)
    (tmp_path / "there").mkdir()
    compact(str(directory), older_than_ns=0, to=str(tmp_path / "there"))
    present = list_present([str(directory)])
    assert pending(present, book) == []
    assert ShippedRemoval(book, 1, pytest.fail).sweep(present, 9 * _S) == 0
    assert len([*directory.glob("*.parquet")]) == 4
