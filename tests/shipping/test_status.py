from __future__ import annotations

from pathlib import Path

from aqltelemetry.shipping.shipper import Shipper, Surroundings
from aqltelemetry.shipping.status import behind, status
from fakes import EPOCH_NS
from memory_destination import IDENTITY, MemoryDestination, ledger, publish

_S = 1_000_000_000


async def test_what_is_shipped_behind_and_refused_is_shown(directory: Path, tmp_path: Path) -> None:
    there = MemoryDestination()
    bad = publish(directory, 1)
    publish(directory, 2)
    there.refused = {bad: "no"}
    with ledger(tmp_path) as book:
        await Shipper([str(directory)], book, there, Surroundings()).ship()
        waiting = publish(directory, 3)
        publish(directory, 4, prefix="runtime")
        path = str(tmp_path / "ledger.sqlite")
        found = status([str(directory)], path, EPOCH_NS + 63 * _S)
    assert (found.destination, found.is_running) == (IDENTITY, True)
    assert (found.totals.files, found.totals.rows) == (1, 10)
    assert [each.name for each in found.refused] == [bad]
    assert found.behind.files == 2
    assert found.behind.by_prefix == {"duration": 1, "runtime": 1}
    assert found.behind.bytes == 2 * (directory / waiting).stat().st_size
    assert found.behind.oldest_s is not None
    assert round(found.behind.oldest_s, 3) == 60
    assert not status([str(directory)], path, EPOCH_NS).is_running


def test_without_a_ledger_all_files_are_behind(directory: Path) -> None:
    publish(directory, 1)
    assert behind([str(directory)], None, EPOCH_NS).files == 1


def test_nothing_is_behind_in_an_empty_directory(directory: Path) -> None:
    directory.mkdir()
    assert behind([str(directory)], None, EPOCH_NS).oldest_s is None
