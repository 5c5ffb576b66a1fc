"""What tests of shipping share: published files, and a destination in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aqltelemetry.shipping.destination import Receipt, Shipment, Unavailable, note_key
from aqltelemetry.shipping.file_rows import read_rows
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.file_names import FileName, enclosing
from fakes import EPOCH_NS

_S = 1_000_000_000
WRITER = "a" * 16
IDENTITY = "memory://there"


def publish(
    directory: Path,
    segment: int = 1,
    rows: int = 10,
    writer: str = WRITER,
    prefix: str = "duration",
    label: str = "/a [GET]",
) -> str:
    """Write a published file of one segment, of its own second; return its name."""
    first_ns = EPOCH_NS + segment * _S
    span = enclosing(first_ns, first_ns + rows)
    name = str(FileName(prefix, *span, 7, writer, segment, segment, 0))
    text = "".join(f"{first_ns + number},0.{number:09d},{label},7\n" for number in range(rows))
    directory.mkdir(exist_ok=True)
    (directory / name).write_text("Timepoint,Measurement,Label,PID\n" + text)
    return name


class MemoryDestination:
    """Keeps rows by file; raises `failures` first, one for each call of `ship`.

    A failure that is in `after` is raised after the shipment was stored.
    """

    max_files = 3
    max_bytes = 1 << 20

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.shipments: list[Shipment] = []
        self.failures: list[Exception] = []
        self.after: list[Exception] = []
        self.refused: dict[str, str] = {}
        self.opened = 0
        self.has_ledger = True

    async def open(self) -> None:
        self.opened += 1

    async def shipped(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset(self.rows).intersection(names if self.has_ledger else ())

    async def ship(self, shipment: Shipment) -> Receipt:
        self.shipments.append(shipment)
        if self.failures:
            raise self.failures.pop(0)
        found = {file.name: read_rows(file) for file in shipment.files}
        refused = {name: why for name, why in self.refused.items() if name in found}
        kept = {name: text for name, text in found.items() if name not in refused}
        self.rows.update(kept)
        if self.after:
            raise self.after.pop(0)
        return Receipt(
            sum(text.count(b"\n") for text in kept.values()),
            refused,
            {note_key(shipment.prefix, file_names.writer(name)): shipment.id for name in kept},
        )

    async def close(self) -> None:
        pass


AWAY = Unavailable("away")


def ledger(directory: Path) -> Ledger:
    """Open the ledger of a test."""
    return Ledger(str(directory / "ledger.sqlite"), IDENTITY)
