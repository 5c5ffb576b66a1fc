"""Compares a destination with the ledger and with the files that are still here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aqltelemetry.shipping.destination import Checkable, Destination, FileGone, ShippedFile
from aqltelemetry.shipping.file_rows import RefusedFileError, count_rows
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.pending import list_present

_CHUNK = 1000


@dataclass(slots=True)
class Checked:
    """The result of a check.

    Attributes:
        files: The number of files that were compared: those that are here, and were shipped.
        rows: The number of their rows.
        waiting: The number of files that are here, and not yet shipped.
        has_counts: Whether the destination can compare numbers of rows.
        differences: What is not as it must be, in words.
    """

    files: int = 0
    rows: int = 0
    waiting: int = 0
    has_counts: bool = False
    differences: list[str] = field(default_factory=list)


async def check(
    directories: Sequence[str], ledger: LedgerReader, destination: Destination
) -> Checked:
    """Compare the files that are here with the destination.

    Raises:
        Unavailable: The destination can't be reached.
        DestinationError: It can't be used as it is.
    """
    present = list_present(directories)
    checked = Checked(has_counts=isinstance(destination, Checkable))
    shipped = ledger.shipped(present.paths.keys())
    checked.waiting = len(present.paths) - len(ledger.known(present.paths.keys()))
    try:
        await destination.open()
        names = sorted(shipped)
        for start in range(0, len(names), _CHUNK):
            await _check_chunk(names[start : start + _CHUNK], present.paths, destination, checked)
    finally:
        await destination.close()
    return checked


async def _check_chunk(
    names: Sequence[str], paths: Mapping[str, str], destination: Destination, checked: Checked
) -> None:
    arrived = await destination.shipped(names)
    rows = {}
    for name in names:
        try:
            rows[name] = count_rows(ShippedFile(name, paths[name]))
        except FileGone:  # retention has just removed it
            continue
        except RefusedFileError as exc:
            checked.differences.append(f"{name} was shipped, and can't be read any more: {exc}")
    # A destination without a ledger of its own knows none.
    if arrived:
        missing = [name for name in rows if name not in arrived]
        checked.differences += [f"{name} is not there" for name in missing]
        for name in missing:
            del rows[name]
    checked.files += len(rows)
    checked.rows += sum(rows.values())
    if isinstance(destination, Checkable):
        checked.differences += await destination.check(rows)
