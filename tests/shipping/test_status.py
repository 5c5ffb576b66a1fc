from __future__ import annotations

from pathlib import Path

from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.shipper import Shipper, Surroundings
from aqltelemetry.shipping.status import behind, status, statuses, total
from fakes import EPOCH_NS
from memory_destination import IDENTITY, MemoryDestination, ledger, publish

_S = 1_000_000_000


async def _ship(book: Ledger, there: MemoryDestination, *directories: Path) -> None:
    await Shipper([str(each) for each in directories], book, there, Surroundings()).ship()


async def test_what_is_shipped_behind_and_refused_is_shown(directory: Path, tmp_path: Path) -> None:
    there = MemoryDestination()
    bad = publish(directory, 1)
    publish(directory, 2)
    there.refused = {bad: "no"}
    with ledger(tmp_path) as book:
        await _ship(book, there, directory)
        waiting = publish(directory, 3)
        publish(directory, 4, prefix="runtime")
        path = str(tmp_path / "ledger.sqlite")
        found = status([str(directory)], path)
    assert (found.destination, found.is_running) == (IDENTITY, True)
    assert (found.totals.files, found.totals.rows) == (1, 10)
    assert found.shipped_ns is not None
    assert found.failure is None
    assert [each.name for each in found.refused] == [bad]
    here = found.behind[str(directory)]
    assert here.files == 2
    assert here.by_prefix == {"duration": 1, "runtime": 1}
    assert here.bytes == 2 * (directory / waiting).stat().st_size
    assert here.oldest_ns is not None
    assert round((here.oldest_ns - EPOCH_NS) / _S, 3) == 3
    assert not status([str(directory)], path).is_running


async def test_each_directory_of_a_ledger_is_shown_and_no_other(tmp_path: Path) -> None:
    """Whichever of them are asked for, and by whichever path."""
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for each in (one, two, other):
        publish(each, 1)
    link = tmp_path / "link"
    link.symlink_to(two)
    with Ledger(str(one / ".ship" / "ledger.sqlite"), IDENTITY) as book:
        await _ship(book, MemoryDestination(), one, two)
    publish(two, 2)
    (found,) = statuses([str(one), str(link), str(other)])
    assert {name: each.files for name, each in found.behind.items()} == {str(one): 0, str(link): 1}
    (found,) = statuses([str(one)])
    assert {name: each.files for name, each in found.behind.items()} == {str(one): 0, str(two): 1}


async def test_a_ledger_from_another_container_is_of_the_directory_that_it_is_in(
    tmp_path: Path,
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    publish(before, 1)
    with Ledger(str(before / ".ship" / "ledger.sqlite"), IDENTITY) as book:
        await _ship(book, MemoryDestination(), before)
    before.rename(after)
    (found,) = statuses([str(after)])
    assert {name: each.files for name, each in found.behind.items()} == {str(after): 0}


def test_a_destination_that_nothing_was_shipped_to_lacks_all_files(directory: Path) -> None:
    publish(directory, 1)
    assert statuses([str(directory)]) == []
    (found,) = statuses([str(directory)], identity=IDENTITY)
    assert (found.destination, found.ledger) == (IDENTITY, "")
    assert total(found.behind.values()).files == 1


def test_nothing_is_behind_in_an_empty_directory(directory: Path) -> None:
    directory.mkdir()
    assert behind(str(directory), None).oldest_ns is None


def test_a_directory_that_is_not_there_is_an_error_of_its_own(directory: Path) -> None:
    assert behind(str(directory), None).error == "No such file or directory"
