"""The state of shipping, from the ledgers and the files: what is shipped, behind, refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aqltelemetry.shipping.ledger import LedgerReader, RefusedFile, Totals
from aqltelemetry.shipping.ledger_lock import is_locked
from aqltelemetry.shipping.pending import list_present
from aqltelemetry.sinks import file_names
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S


@dataclass(frozen=True, slots=True)
class Behind:
    """Files that are published and not yet shipped.

    Attributes:
        files: Their number.
        bytes: Their size, compressed if they are.
        oldest_s: Seconds since the last observation of the oldest of them; None if there is none.
        by_prefix: Their number by prefix.
    """

    files: int
    bytes: int
    oldest_s: float | None
    by_prefix: dict[str, int]


@dataclass(frozen=True, slots=True)
class Status:
    """The state of shipping to one destination.

    Attributes:
        destination: The URL, without secrets.
        is_running: Whether a shipper runs now.
        totals: What has been shipped since the ledger was made.
        behind: What is still to be shipped.
        refused: The files that the destination has refused.
    """

    destination: str
    is_running: bool
    totals: Totals
    behind: Behind
    refused: Sequence[RefusedFile]


def status(directories: Sequence[str], path: str, now_ns: int) -> Status:
    """Return the state of one ledger; raises LedgerError if it can't be read."""
    with LedgerReader(path) as ledger:
        return Status(
            ledger.destination,
            is_locked(path),
            ledger.totals(),
            behind(directories, ledger, now_ns),
            ledger.refused(),
        )


def behind(directories: Sequence[str], ledger: LedgerReader | None, now_ns: int) -> Behind:
    """Return which files are to be shipped: all of them, if there is no ledger yet."""
    paths = list_present(directories).paths
    known = set() if ledger is None else ledger.known(paths.keys())
    files, size, oldest_ns = 0, 0, now_ns
    by_prefix: dict[str, int] = {}
    for published, path in paths.items():
        name = file_names.parse(published)
        if published in known or name is None:
            continue
        try:
            size += syscalls.look_at(path).st_size
        except OSError:  # it has just been removed
            continue
        files += 1
        by_prefix[name.prefix] = by_prefix.get(name.prefix, 0) + 1
        oldest_ns = min(oldest_ns, name.to_ns)
    return Behind(files, size, (now_ns - oldest_ns) / NS_PER_S if files else None, by_prefix)
