"""The state of shipping, from the ledgers and the files: what is shipped, behind, refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aqltelemetry.shipping.ledger_lock import STATE_DIRECTORY, is_locked
from aqltelemetry.shipping.ledger_reader import (
    Failure,
    LedgerReader,
    NotedFile,
    Totals,
    ledgers_in,
)
from aqltelemetry.shipping.pending import list_present
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.archives import members_of
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system import syscalls

_NOTHING = Totals()


@dataclass(slots=True)
class Behind:
    """Files that are published and not yet shipped.

    Attributes:
        files: Their number.
        bytes: Their size, compressed if they are; in an archive, their share of it by rows.
        oldest_ns: The time of the last observation of the oldest of them, in nanoseconds since the
            epoch; None if there is none.
        by_prefix: Their number by prefix.
        error: Why the directory could not be read; empty if it could.
    """

    files: int = 0
    bytes: int = 0
    oldest_ns: int | None = None
    by_prefix: dict[str, int] = field(default_factory=dict)
    error: str = ""

    def add(self, name: FileName, size_bytes: int) -> None:
        """Count a file."""
        self.files += 1
        self.bytes += size_bytes
        self.by_prefix[name.prefix] = self.by_prefix.get(name.prefix, 0) + 1
        self.oldest_ns = min(self.oldest_ns or name.to_ns, name.to_ns)


@dataclass(frozen=True, slots=True)
class Status:
    """The state of shipping to one destination.

    Attributes:
        destination: The URL, without secrets.
        ledger: The path of the ledger; empty if nothing was shipped yet.
        behind: What is still to be shipped, by directory.
        is_running: Whether a shipper runs now.
        totals: What has been shipped since the ledger was made.
        shipped_ns: When a shipment arrived last, in nanoseconds since the epoch; None if none did.
        failure: Why the destination could not be reached at the last attempt; None if it was.
        refused: The files that the destination has refused.
        gone: The files that were removed before they were shipped, in the last 30 days.
    """

    destination: str
    ledger: str
    behind: Mapping[str, Behind]
    is_running: bool = False
    totals: Totals = _NOTHING
    shipped_ns: int | None = None
    failure: Failure | None = None
    refused: Sequence[NotedFile] = ()
    gone: Sequence[NotedFile] = ()


def statuses(
    directories: Sequence[str], state: str | None = None, identity: str | None = None
) -> list[Status]:
    """Return the state of each destination that the directories are shipped to.

    Args:
        directories: The monitoring directories.
        state: The directory of the ledgers; None for `.ship` in each of the directories.
        identity: The one destination that is wanted, as `Target.identity`; None for all.

    Raises:
        LedgerError: A ledger can't be read.
    """
    every = [
        status(of, path, directories)
        for place, of in _places(directories, state)
        for path in ledgers_in(place)
    ]
    found = [each for each in every if identity in {None, each.destination}]
    if not found and identity is not None:
        found = [Status(identity, "", {each: behind(each, None) for each in directories})]
    return found


def status(directories: Sequence[str], path: str, given: Sequence[str] = ()) -> Status:
    """Return the state of one ledger; raises LedgerError if it can't be read.

    `directories` are those that it is of if its own list of them has none of these. Where a path
    in the list is one of `given`, it is shown as that.
    """
    with LedgerReader(path) as ledger:
        return Status(
            ledger.destination,
            path,
            {
                each: behind(each, ledger)
                for each in _shipped(directories, given, ledger.directories)
            },
            is_locked(path),
            ledger.totals(),
            ledger.shipped_ns,
            ledger.failure,
            ledger.refused(),
            ledger.gone(),
        )


def behind(directory: str, ledger: LedgerReader | None) -> Behind:
    """Return which files are to be shipped: all of them, if there is no ledger yet."""
    present = list_present([directory])
    found = Behind(error=present.unreadable.get(directory, ""))
    known = set() if ledger is None else ledger.known(present.paths.keys())
    for published, path in present.paths.items():
        name = file_names.parse(published)
        if published not in known and name is not None:
            with suppress(OSError):  # it has just been removed
                found.add(name, syscalls.look_at(path).st_size)
    done = set() if ledger is None else ledger.done_archives(present.archives.keys())
    for entry in present.archives.keys() - done:
        with suppress(OSError):
            _add_archive(found, present.archives[entry], ledger)
    return found


def _add_archive(found: Behind, path: str, ledger: LedgerReader | None) -> None:
    members = members_of(path)
    known = set() if ledger is None else ledger.known([str(each.name) for each in members])
    size, rows = syscalls.look_at(path).st_size, sum(each.rows for each in members)
    for member in members:
        if str(member.name) not in known:
            found.add(member.name, round(size * member.rows / max(rows, 1)))


def total(found: Iterable[Behind]) -> Behind:
    """Return the sum over several directories."""
    result = Behind()
    for each in found:
        result.files += each.files
        result.bytes += each.bytes
        times = [time for time in (result.oldest_ns, each.oldest_ns) if time is not None]
        result.oldest_ns = min(times, default=None)
        for prefix, files in each.by_prefix.items():
            result.by_prefix[prefix] = result.by_prefix.get(prefix, 0) + files
    return result


def _places(directories: Sequence[str], state: str | None) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield where ledgers are, and of which directories."""
    if state is not None:
        yield state, directories
        return
    for directory in directories:
        yield os.path.join(directory, STATE_DIRECTORY), [directory]


def _shipped(
    directories: Sequence[str], given: Sequence[str], noted: Sequence[str]
) -> Sequence[str]:
    """Return the directories of a ledger, as `status` describes it."""
    # Another container may have other paths.
    if not set(map(os.path.realpath, directories)).intersection(noted):
        return directories
    shown = {os.path.realpath(each): each for each in (*directories, *given)}
    return [shown.get(each, each) for each in noted if each in shown or os.path.isdir(each)]
