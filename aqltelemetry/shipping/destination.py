"""The methods of a destination: a store that published files are shipped to.

A shipper gives a destination one shipment after the other. A shipment is a few files of one
prefix, oldest first. Its composition is in the ledger before it is sent, and it is sent again,
unchanged and first, if it is not known to have arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable


class ShippedFile(NamedTuple):
    """A published file.

    `name` is the name under which it was published, which identifies it in every ledger.
    `path` is where it is now, possibly compressed.
    """

    name: str
    path: str


def note_key(prefix: str, writer: str) -> str:
    """Return the key of the note about the files of a prefix of a recording."""
    return f"{prefix} {writer}"


def prefix_of(key: str) -> str:
    """Return the prefix in the key of a note."""
    return key.rpartition(" ")[0]


def writer_of(key: str) -> str:
    """Return the writer in the key of a note."""
    return key.rpartition(" ")[2]


@dataclass(frozen=True, slots=True)
class Shipment:
    """Files that are sent together.

    Attributes:
        id: 32 hexadecimal digits, derived from the names: the same at each attempt.
        prefix: The prefix of all of the files, such as `duration`.
        files: The files, in the order of their names.
        notes: What the destination asked to keep in `Receipt.notes` of earlier shipments, of the
            recordings that these files are from; by `note_key`.
    """

    id: str
    prefix: str
    files: Sequence[ShippedFile]
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a shipment.

    Attributes:
        rows: The number of rows that the destination has of it.
        refused: The files that the destination does not accept, by name, and the reason of each.
            They are set aside, and the other files of the shipment have arrived.
        notes: Texts about recordings, by `note_key`, that the ledger keeps and gives to later
            shipments of these. They replace earlier notes in the same step that marks the files
            as shipped. They are forgotten once later files of the prefix are 7 days newer.
    """

    rows: int
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


class Unavailable(Exception):  # noqa: N818 - a state, which is not an error of anybody's
    """Raised by a destination that can't be reached now; the shipment is sent again later."""


class FileGone(Exception):  # noqa: N818 - as above
    """Raised if a file of a shipment has been removed; nothing of the shipment has arrived."""


class CannotBeAsked(Exception):  # noqa: N818 - as above
    """Raised by a check if the store can't be asked what it has; the text is the reason."""


class Destination(Protocol):
    """A store that published files are shipped to; used by one task at a time."""

    @property
    def max_files(self) -> int:
        """The largest number of files of one shipment."""
        ...

    @property
    def max_bytes(self) -> int:
        """The size in bytes from which a shipment gets no further file."""
        ...

    async def open(self) -> None:
        """Connect, and create or check tables.

        Raises:
            Unavailable: The store can't be reached now.
            DestinationError: It can be reached, but can't be used as it is.
        """
        ...

    async def shipped(self, names: Sequence[str]) -> frozenset[str]:
        """Return which files the store knows to have; none, if it keeps no ledger of its own."""
        ...

    async def ship(self, shipment: Shipment) -> Receipt:
        """Store a shipment.

        Storing the same shipment again changes nothing, as far as the store allows that. The
        task may be cancelled, if the shipper has to end.

        Raises:
            Unavailable: The connection failed. Whether the shipment arrived may be unknown.
            FileGone: A file was removed meanwhile; nothing is stored.
            DestinationError: The store can't be used as it is.
        """
        ...

    async def close(self) -> None:
        """Disconnect; raises nothing."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """A destination that can compare what it has with the files."""

    async def check(self, rows: Mapping[str, int]) -> Sequence[str]:
        """Return the differences between the store and the files, in words.

        Args:
            rows: The number of rows of each file that is here, by its name. All of them have been
                shipped, as far as the local ledger knows.

        Raises:
            Unavailable: The store can't be reached now.
        """
        ...


@runtime_checkable
class ChecksTotals(Protocol):
    """A destination without rows that can compare the totals of recordings."""

    async def check_totals(self, notes: Mapping[str, str]) -> Sequence[str]:
        """Return the differences between the store and what it has asked to keep, in words.

        Args:
            notes: The notes of the last shipment of each recording, by `note_key`.

        Raises:
            Unavailable: The store can't be reached now.
            CannotBeAsked: It can't be asked.
        """
        ...
