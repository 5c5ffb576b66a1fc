from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aqltelemetry.archive.compact import compact
from aqltelemetry.shipping.check import Checked, check
from aqltelemetry.shipping.destination import CannotBeAsked
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.pending import list_present
from aqltelemetry.shipping.shipper import Shipper, Surroundings
from memory_destination import WRITER, MemoryDestination, ledger, publish
from segments import record


class _Comparing(MemoryDestination):
    """A destination that can compare numbers of rows."""

    async def check(self, rows: Mapping[str, int]) -> Sequence[str]:
        have = {name: self.rows[name].count(b"\n") for name in rows}
        return [f"{name} differs" for name in rows if have[name] != rows[name]]


async def _checked(directory: Path, tmp_path: Path, there: MemoryDestination) -> Checked:
    with LedgerReader(str(tmp_path / "ledger.sqlite")) as reader:
        return await check([str(directory)], reader, there)


async def _ship(directory: Path, tmp_path: Path, there: MemoryDestination) -> list[str]:
    names = [publish(directory, segment) for segment in (1, 2)]
    with ledger(tmp_path) as book:
        await Shipper([str(directory)], book, there, Surroundings()).ship()
    return names


async def test_nothing_differs_after_shipping(directory: Path, tmp_path: Path) -> None:
    there = _Comparing()
    await _ship(directory, tmp_path, there)
    publish(directory, 3)
    checked = await _checked(directory, tmp_path, there)
    assert checked == Checked(files=2, rows=20, waiting=1, has_counts=True)


async def test_a_file_that_the_destination_lost_is_found(directory: Path, tmp_path: Path) -> None:
    there = _Comparing()
    lost, _ = await _ship(directory, tmp_path, there)
    del there.rows[lost]
    checked = await _checked(directory, tmp_path, there)
    assert checked.differences == [f"{lost} is not there"]
    assert checked.files == 1


async def test_a_row_too_many_is_found(directory: Path, tmp_path: Path) -> None:
    there = _Comparing()
    name, _ = await _ship(directory, tmp_path, there)
    there.rows[name] += b"1,2,a,7\n"
    assert (await _checked(directory, tmp_path, there)).differences == [f"{name} differs"]


async def test_a_destination_that_cannot_count_is_asked_for_files_only(
    directory: Path, tmp_path: Path
) -> None:
    there = MemoryDestination()
    name, _ = await _ship(directory, tmp_path, there)
    there.rows[name] += b"1,2,a,7\n"
    checked = await _checked(directory, tmp_path, there)
    assert (checked.has_counts, checked.differences) == (False, [])


async def test_a_shipped_file_that_is_damaged_now_is_found(directory: Path, tmp_path: Path) -> None:
    there = _Comparing()
    name, _ = await _ship(directory, tmp_path, there)
    (directory / name).write_text("damaged")
    (difference,) = (await _checked(directory, tmp_path, there)).differences
    assert difference.startswith(f"{name} was shipped, and can't be read any more")


async def test_files_in_archives_are_compared_too(directory: Path, tmp_path: Path) -> None:
    there = _Comparing()
    record(directory, processes=1, segments=2)
    compact(str(directory), older_than_ns=0)
    with ledger(tmp_path) as book:
        await Shipper([str(directory)], book, there, Surroundings()).ship()
        archives = list_present([str(directory)]).archives.keys()
        for forgets in (False, True):
            if forgets:
                book.forget(1 << 62, set(), archives)
            checked = await _checked(directory, tmp_path, there)
            assert (checked.files, checked.waiting, checked.differences) == (8, 0, [])
            assert checked.rows == sum(text.count(b"\n") for text in there.rows.values())
    lost = max(there.rows)
    del there.rows[lost]
    record(directory, processes=1, segments=3, seed=1)
    compact(str(directory), older_than_ns=0)
    checked = await _checked(directory, tmp_path, there)
    assert (checked.files, checked.waiting) == (7, 12)
    assert checked.differences == [f"{lost} is not there"]


class _Totals(MemoryDestination):
    """A destination that compares totals, or can't be asked."""

    reason = ""

    async def check_totals(self, notes: Mapping[str, str]) -> Sequence[str]:
        if self.reason:
            raise CannotBeAsked(self.reason)
        return [f"{key} differs from {note}" for key, note in notes.items()]


async def test_a_destination_without_rows_compares_the_notes_of_recordings(
    directory: Path, tmp_path: Path
) -> None:
    there = _Totals()
    await _ship(directory, tmp_path, there)
    checked = await _checked(directory, tmp_path, there)
    assert checked.differences == [f"duration {WRITER} differs from {there.shipments[0].id}"]
    assert (checked.files, checked.totals, checked.reason) == (0, 1, "")


async def test_a_destination_that_cannot_be_asked_says_why(directory: Path, tmp_path: Path) -> None:
    there = _Totals()
    there.reason = "it is mute"
    await _ship(directory, tmp_path, there)
    checked = await _checked(directory, tmp_path, there)
    assert (checked.totals, checked.reason, checked.differences) == (None, "it is mute", [])
