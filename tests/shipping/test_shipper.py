from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aqltelemetry.errors import DestinationError
from aqltelemetry.shipping.destination import FileGone, Receipt, Shipment, Unavailable
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.pending import Present, list_present
from aqltelemetry.shipping.shipper import GaveUp, Shipper, Surroundings
from aqltelemetry.system.clock import NS_PER_S, epoch_ns
from memory_destination import AWAY, WRITER, MemoryDestination, ledger, publish


@pytest.fixture
def there() -> MemoryDestination:
    return MemoryDestination()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with ledger(tmp_path) as made:
        yield made


class _Around(Surroundings):
    """Surroundings in which nothing waits; keeps what was waited and reported."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.lines: list[str] = []
        super().__init__(
            report=self.lines.append,
            now_ns=lambda: 1_000,
            sleep=self._sleep,
            random=lambda: 1.0,
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def _shipper(
    directory: Path,
    book: Ledger,
    there: MemoryDestination,
    around: Surroundings | None = None,
    attempts: int | None = None,
) -> Shipper:
    around = around or _Around()
    around.attempts = attempts
    return Shipper([str(directory)], book, there, around)


async def test_each_file_is_shipped_once(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    names = [publish(directory, segment) for segment in range(1, 6)]
    shipper = _shipper(directory, book, there)
    await shipper.ship()
    await shipper.ship()
    assert [[file.name for file in each.files] for each in there.shipments] == [
        names[:3],
        names[3:],
    ]
    assert (shipper.done.files, shipper.done.rows) == (5, 50)
    assert book.totals()[:2] == (5, 50)


async def test_a_shipment_is_sent_again_unchanged_after_failures(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    publish(directory, 1)
    there.failures = [AWAY, AWAY]
    around = _Around()
    await _shipper(directory, book, there, around).ship()
    assert len({each.id for each in there.shipments}) == 1
    assert len(there.shipments) == 3
    assert around.waits == [0.5, 1.0]
    assert there.opened == 3
    assert around.lines == [
        "the destination can't be reached: away; trying again",
        "the destination is reached again",
    ]


async def test_a_shipper_that_was_killed_is_followed_by_the_same_shipment(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    """Even if more files would fit into it now."""
    first = publish(directory, 1)
    there.after = [AWAY]
    with pytest.raises(GaveUp):
        await _shipper(directory, book, there, attempts=1).ship()
    second = publish(directory, 2)
    await _shipper(directory, book, there).ship()
    sent = [[file.name for file in each.files] for each in there.shipments]
    assert sent == [[first], [first], [second]]
    assert there.shipments[0].id == there.shipments[1].id


async def test_notes_are_given_to_later_shipments_of_the_same_recordings(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    publish(directory, 1)
    await _shipper(directory, book, there).ship()
    publish(directory, 2)
    await _shipper(directory, book, there).ship()
    publish(directory, 3, writer="b" * 16)
    await _shipper(directory, book, there).ship()
    first, second, third = there.shipments
    assert first.notes == third.notes == {}
    assert second.notes == {f"duration {WRITER}": first.id}


async def test_the_ledger_says_since_when_the_destination_is_away(
    directory: Path, book: Ledger, tmp_path: Path, there: MemoryDestination
) -> None:
    publish(directory, 1)
    there.failures = [AWAY, Unavailable("still away")]
    with LedgerReader(str(tmp_path / "ledger.sqlite")) as reader:
        for _ in range(2):
            with pytest.raises(GaveUp):
                await _shipper(directory, book, there, attempts=1).ship()
        assert (reader.failure, reader.shipped_ns) == ((1_000, "still away"), None)
        await _shipper(directory, book, there).ship()
        assert (reader.failure, reader.shipped_ns) == (None, 1_000)
        assert reader.directories == [str(directory)]


async def test_a_new_ledger_asks_the_destination_what_it_has(
    directory: Path, tmp_path: Path, there: MemoryDestination
) -> None:
    for segment in (1, 2):
        publish(directory, segment)
    with ledger(tmp_path / "lost") as lost:
        await _shipper(directory, lost, there).ship()
    new = publish(directory, 3)
    with ledger(tmp_path / "new") as made:
        await _shipper(directory, made, there).ship()
        assert made.totals().files == 3
    assert [file.name for file in there.shipments[-1].files] == [new]


async def test_a_refused_file_is_reported_and_stops_nothing(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    bad, good = publish(directory, 1), publish(directory, 2)
    there.refused = {bad: "it is damaged"}
    around = _Around()
    shipper = _shipper(directory, book, there, around)
    await shipper.ship()
    await shipper.ship()
    assert set(there.rows) == {good}
    assert (shipper.done.files, shipper.done.refused) == (1, 1)
    assert around.lines == [f"refused: {bad}: it is damaged"]
    assert [each.name for each in book.refused()] == [bad]


async def test_a_file_that_is_removed_before_it_is_shipped_is_counted(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    gone, left = publish(directory, 1), publish(directory, 2)
    there.failures = [AWAY]
    with pytest.raises(GaveUp):
        await _shipper(directory, book, there, attempts=1).ship()
    (directory / gone).unlink()
    shipper = _shipper(directory, book, there)
    await shipper.ship()
    assert set(there.rows) == {left}
    assert shipper.done.gone == book.totals().gone == 1


async def test_a_file_that_arrived_and_is_gone_now_counts_as_shipped(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    name = publish(directory, 1)
    there.after = [AWAY]
    with pytest.raises(GaveUp):
        await _shipper(directory, book, there, attempts=1).ship()
    (directory / name).unlink()
    shipper = _shipper(directory, book, there)
    await shipper.ship()
    assert book.totals()[:5] == (1, 0, (book.totals().bytes), 0, 0)
    assert book.planned() is None


async def test_a_file_that_is_compressed_meanwhile_is_sent_in_the_same_shipment(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    publish(directory, 1)
    there.failures = [FileGone("it was compressed")]
    await _shipper(directory, book, there).ship()
    assert len({each.id for each in there.shipments}) == 1
    assert len(there.rows) == 1


async def test_the_shipper_gives_up_after_the_allowed_attempts(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    publish(directory, 1)
    there.failures = [AWAY] * 9
    with pytest.raises(GaveUp, match="away"):
        await _shipper(directory, book, there, attempts=3).ship()
    assert len(there.shipments) == 3


async def test_a_destination_that_cannot_be_used_ends_the_shipper(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    publish(directory, 1)
    there.failures = [DestinationError("memory://there", "no such table")]
    with pytest.raises(DestinationError, match="no such table"):
        await _shipper(directory, book, there).ship()
    assert book.planned() is not None


async def test_following_ships_what_is_published_later_until_a_stop(
    directory: Path, book: Ledger, there: MemoryDestination
) -> None:
    publish(directory, 1)
    around = _Around()
    seen = []

    async def sleep(seconds: float) -> None:
        seen.append((seconds, len(there.rows)))
        if len(seen) == 3:
            around.stop.set()
        publish(directory, 1 + len(seen))

    around.sleep = sleep
    await _shipper(directory, book, there, around).follow(5.0)
    assert seen == [(5.0, 1), (5.0, 2), (5.0, 3)]


async def test_directories_are_not_listed_again_while_they_are_unchanged(
    directory: Path, book: Ledger, there: MemoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(directory, 1)
    around, listings = _Around(), []
    now_ns = [epoch_ns() + 3600 * NS_PER_S]
    around.now_ns = lambda: now_ns[0]

    def listed(directories: Sequence[str]) -> Present:
        listings.append(directories)
        return list_present(directories)

    seen: list[tuple[int, int]] = []

    async def sleep(seconds: float) -> None:
        seen.append((len(listings), len(there.rows)))
        now_ns[0] += int(seconds * NS_PER_S)
        if len(seen) == 4:
            publish(directory, 2)
        if len(seen) == 18:
            around.stop.set()

    monkeypatch.setattr("aqltelemetry.shipping.shipper.list_present", listed)
    around.sleep = sleep
    await _shipper(directory, book, there, around).follow(5.0)
    # Once with the new file and once without any; then again after a minute.
    assert seen == [(2, 1)] * 4 + [(4, 2)] * 12 + [(5, 2)] * 2


async def test_a_file_that_is_published_right_after_a_listing_is_shipped(
    directory: Path, book: Ledger, there: MemoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    around, names = _Around(), [publish(directory, 1)]
    around.now_ns = epoch_ns

    def listed(directories: Sequence[str]) -> Present:
        found = list_present(directories)
        if len(names) < 12:
            names.append(publish(directory, 1 + len(names)))
        return found

    async def sleep(_: float) -> None:
        around.waits.append(0)
        if len(around.waits) == 16:
            around.stop.set()

    monkeypatch.setattr("aqltelemetry.shipping.shipper.list_present", listed)
    around.sleep = sleep
    await _shipper(directory, book, there, around).follow(5.0)
    assert len(names) == 12
    assert sorted(there.rows) == sorted(names)


class _Hanging(MemoryDestination):
    """Stores shipments, and then waits for `release`."""

    def __init__(self) -> None:
        super().__init__()
        self.sending = asyncio.Event()
        self.release = asyncio.Event()

    async def ship(self, shipment: Shipment) -> Receipt:
        self.sending.set()
        await self.release.wait()
        return await super().ship(shipment)


async def test_a_stop_lets_the_running_shipment_end(directory: Path, book: Ledger) -> None:
    for segment in range(1, 8):
        publish(directory, segment)
    there, around = _Hanging(), _Around()
    task = asyncio.ensure_future(_shipper(directory, book, there, around).ship())
    await there.sending.wait()
    around.stop.set()
    there.release.set()
    await task
    assert book.totals().files == 3
    assert book.planned() is None


async def test_a_shipment_that_hangs_is_cancelled_after_a_stop(
    directory: Path, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqltelemetry.shipping.shipper.STOP_S", 0.01)
    publish(directory, 1)
    there, around = _Hanging(), _Around()
    task = asyncio.ensure_future(_shipper(directory, book, there, around).ship())
    await there.sending.wait()
    around.stop.set()
    await task
    assert there.rows == {}
    assert book.planned() is not None
