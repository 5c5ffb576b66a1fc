from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqltelemetry import Monitor, time_block
from aqltelemetry.audit.verify import verify
from aqltelemetry.shipping.ledger import Ledger, PlannedFile
from aqltelemetry.shipping.pending import list_present
from aqltelemetry.shipping.removal import ShippedRemoval
from aqltelemetry.system import syscalls
from memory_destination import ledger, publish

_S = 1_000_000_000
_DAY_NS = 86_400 * _S


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with ledger(tmp_path) as made:
        yield made


def _shipped(book: Ledger, directory: Path, at_ns: int) -> dict[str, str]:
    """Note all files as shipped; return their paths."""
    paths = dict(list_present([str(directory)]).paths)
    book.arrived([PlannedFile(name, 1) for name in paths], at_ns)
    return paths


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
    present = list_present([str(directory)]).paths
    assert removal.sweep(present, 10 * _S) == 0
    assert removal.sweep(present, 20 * _S) == 2
    assert _files(directory) == {refused, new}


def test_a_sweep_comes_at_most_every_ten_seconds(directory: Path, book: Ledger) -> None:
    paths: dict[str, str] = {}
    removal = ShippedRemoval(book, 10, pytest.fail)
    removal.sweep(paths, 5 * _S)
    publish(directory)
    paths = _shipped(book, directory, 0)
    assert removal.sweep(paths, 14 * _S) == 0
    assert removal.sweep(paths, 15 * _S) == 1


async def test_verify_explains_what_was_removed(directory: Path, book: Ledger) -> None:
    """Files of a recording that goes on, with their accounts, some compressed."""
    await _record(directory)
    paths = _shipped(book, directory, 0)
    for path in list(paths.values()):
        if "account" in path:
            Path(f"{path}.gz").write_bytes(gzip.compress(Path(path).read_bytes()))
            Path(path).unlink()
    removal = ShippedRemoval(book, 86_400, pytest.fail)
    present = list_present([str(directory)]).paths
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
        present = list_present([str(directory)]).paths
        assert ShippedRemoval(book, 1, pytest.fail).sweep(present, now_ns) > 0
        now_ns += 2 * _DAY_NS
    assert len([*directory.glob("account.*.csv")]) == 1
    verdicts = verify(directory, [directory / ".journal"])
    assert not [each for each in verdicts if each.problems and each.writer != "a" * 16]


async def test_a_file_that_cannot_be_removed_stays_and_is_not_accounted_for(
    directory: Path, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _record(directory)
    paths = _shipped(book, directory, 0)
    stuck = next(path for path in paths.values() if "duration" in path)
    unlink = syscalls.unlink

    def refuse(path: str) -> None:
        if path == stuck:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        unlink(path)

    monkeypatch.setattr(syscalls, "unlink", refuse)
    lines: list[str] = []
    removal = ShippedRemoval(book, 1, lines.append)
    assert removal.sweep(paths, 2 * _S) == len(paths) - 1
    assert lines == [f"{stuck} can't be removed: Operation not permitted"]
    verdicts = verify(directory, [directory / ".journal"])
    assert not [problem for each in verdicts for problem in each.problems]


async def test_nothing_is_removed_where_no_account_can_be_published(
    directory: Path, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _record(directory)
    paths = _shipped(book, directory, 0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(syscalls, "open_file", full)
    lines: list[str] = []
    assert ShippedRemoval(book, 1, lines.append).sweep(paths, 2 * _S) == 0
    monkeypatch.undo()
    assert _files(directory) == set(paths)
    assert lines == [f"{directory}: shipped files can't be removed: No space left on device"]
