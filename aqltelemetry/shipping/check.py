"""Compares a destination with the ledger and with the files that are still here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from aqltelemetry.shipping.destination import (
    CannotBeAsked,
    Checkable,
    ChecksTotals,
    Destination,
    FileGone,
    ShippedFile,
)
from aqltelemetry.shipping.file_rows import RefusedFileError, count_rows
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.pending import Present, list_present
from aqltelemetry.sinks.archives import members_of

_CHUNK = 1000


@dataclass(slots=True)
class Checked:
    """The result of a check.

    Attributes:
        files: The number of files that were compared: those that are here, and were shipped.
        rows: The number of their rows.
        waiting: The number of files that are here, and not yet shipped.
        has_counts: Whether the destination can compare numbers of rows.
        totals: The number of recordings of which totals were compared; None if the destination
            has rows.
        reason: Why nothing could be compared; an empty text if something was.
        differences: What is not as it must be, in words.
    """

    files: int = 0
    rows: int = 0
    waiting: int = 0
    has_counts: bool = False
    totals: int | None = None
    reason: str = ""
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
    checked.waiting = len(present.paths) - len(ledger.known(present.paths.keys()))
    try:
        await destination.open()
        if isinstance(destination, ChecksTotals):
            notes = ledger.notes()
            checked.differences += await destination.check_totals(notes)
            checked.totals = len(notes)
        else:
            found = _shipped(present, ledger, checked)
            while files := list(islice(found, _CHUNK)):
                await _check_chunk(files, destination, checked)
    except CannotBeAsked as exc:
        checked.reason = str(exc)
    finally:
        await destination.close()
    return checked


def _shipped(
    present: Present, ledger: LedgerReader, checked: Checked
) -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield the files that were shipped, and a function that counts the rows of each."""
    seen = ledger.shipped(present.paths.keys())
    for name in sorted(seen):
        yield name, partial(count_rows, ShippedFile(name, present.paths[name]))
    done = ledger.done_archives(present.archives.keys())
    for entry, path in sorted(present.archives.items()):
        try:
            members = {str(member.name): member.rows for member in members_of(path)}
        except FileNotFoundError:
            continue
        except OSError as exc:
            checked.differences.append(f"{path} can't be read any more: {exc}")
            continue
        new = members.keys() - ledger.known(members.keys())
        shipped = ledger.shipped(members.keys())
        if entry in done:  # the ledger has forgotten those files
            shipped |= new
        else:
            checked.waiting += len(new - present.paths.keys())
        for name in sorted(shipped - seen):
            yield name, partial(int, members[name])


async def _check_chunk(
    files: Sequence[tuple[str, Callable[[], int]]], destination: Destination, checked: Checked
) -> None:
    arrived = await destination.shipped([name for name, _ in files])
    rows = {}
    for name, count in files:
        try:
            rows[name] = count()
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
