"""Reads ledgers, also while a shipper uses them."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from aqltelemetry.errors import LedgerError
from aqltelemetry.system import syscalls

VERSION = 2
"""The version of the tables of a ledger, as in `ledger._TABLES`."""
BUSY_S = 10.0
"""How long to wait for another process that changes a ledger, in seconds."""
SHIPPED, REFUSED, GONE = "shipped", "refused", "gone"
"""The states of a file; `GONE` is one that was removed before it was shipped."""
_CHUNK = 500


class NotedFile(NamedTuple):
    """A file that was refused or is gone, the reason, and when, in ns since the epoch."""

    name: str
    reason: str
    at_ns: int


class Totals(NamedTuple):
    """What has been shipped since the ledger was made.

    `gone` files were removed before they could be shipped; `deleted` ones were shipped, and then
    removed here by the shipper.
    """

    files: int = 0
    rows: int = 0
    bytes: int = 0
    refused: int = 0
    gone: int = 0
    deleted: int = 0


class Failure(NamedTuple):
    """Since when the destination can't be reached, in ns since the epoch, and the reason."""

    since_ns: int
    reason: str


class LedgerReader:
    """Reads a ledger while a shipper may be using it; use it as a context manager.

    Raises LedgerError if there is none, or it can't be read.
    """

    def __init__(self, path: str) -> None:
        if not os.path.exists(path):
            raise LedgerError(path, "it does not exist: nothing was shipped yet")
        self._path = path
        try:
            self._db = _connected(path)
        except sqlite3.Error as exc:
            raise LedgerError(path, str(exc)) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        self._db.close()
        if isinstance(exc, sqlite3.Error):
            raise LedgerError(self._path, str(exc)) from exc

    @property
    def destination(self) -> str:
        """The destination, without secrets."""
        return get(self._db, "destination")

    @property
    def directories(self) -> Sequence[str]:
        """The directories that were shipped last, as real paths."""
        found: list[str] = json.loads(get(self._db, "directories") or "[]")
        return found

    @property
    def planned(self) -> str:
        """The identity of the shipment of which it is unknown whether it arrived, or ""."""
        (is_planned,) = self._db.execute("SELECT count(*) FROM planned").fetchone()
        return get(self._db, "plan") if is_planned else ""

    @property
    def shipped_ns(self) -> int | None:
        """When a shipment arrived last, in nanoseconds since the epoch; None if none did."""
        text = get(self._db, "shipped_ns")
        return int(text) if text else None

    @property
    def failure(self) -> Failure | None:
        """Why the destination could not be reached at the last attempt; None if it was."""
        since, reason = get(self._db, "failing_ns"), get(self._db, "failing")
        return Failure(int(since), reason) if since else None

    def totals(self) -> Totals:
        """Return what has been shipped since the ledger was made."""
        return totals(self._db)

    def refused(self) -> Sequence[NotedFile]:
        """Return the refused files."""
        return noted(self._db, REFUSED)

    def gone(self) -> Sequence[NotedFile]:
        """Return the files that were removed before they were shipped, in the last 30 days."""
        return noted(self._db, GONE)

    def notes(self) -> Mapping[str, str]:
        """Return all notes of the destination, by their keys."""
        return dict(self._db.execute("SELECT key, value FROM note"))

    def known(self, names: Collection[str]) -> set[str]:
        """Return which of these files need not be shipped."""
        return known(self._db, names)

    def done_archives(self, names: Collection[str]) -> set[str]:
        """Return which of these archives contain no file that needs to be shipped."""
        return done_archives(self._db, names)

    def shipped(self, names: Collection[str]) -> set[str]:
        """Return which of these files were shipped."""
        query = f"SELECT name FROM file WHERE state = '{SHIPPED}' AND name IN"  # noqa: S608
        return set(matching(self._db, names, query))


def _connected(path: str) -> sqlite3.Connection:
    """Connect without writing, except for what a killed shipper has left to be rolled back."""
    place = f"file:{quote(os.path.abspath(path))}"
    db = sqlite3.connect(f"{place}?mode=ro", timeout=BUSY_S, uri=True)
    try:
        check_version(db, path, is_complete=True)
    except sqlite3.OperationalError:
        db.close()
        db = sqlite3.connect(f"{place}?mode=rw", timeout=BUSY_S, uri=True)
        check_version(db, path, is_complete=True)
    return db


def ledgers_in(directory: str) -> Sequence[str]:
    """Return the paths of the ledgers in a directory; none if it does not exist."""
    try:
        names = syscalls.list_directory(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [os.path.join(directory, name) for name in names if name.endswith(".sqlite")]


def check_version(db: sqlite3.Connection, path: str, *, is_complete: bool = False) -> None:
    """Raise LedgerError if a ledger has other tables than these, or none if it is complete."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if not version and is_complete:
        db.close()
        raise LedgerError(path, "another process is making it: nothing was shipped yet")
    if version not in (0, VERSION):
        db.close()
        raise LedgerError(path, f"it is of version {version}, and this version reads {VERSION}")


def get(db: sqlite3.Connection, key: str) -> str:
    """Return a text about the ledger as a whole; an empty one if there is none."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return "" if row is None else str(row[0])


def totals(db: sqlite3.Connection) -> Totals:
    """Return what has been shipped since the ledger was made."""
    found = dict(db.execute("SELECT name, value FROM total").fetchall())
    return Totals(**{name: found.get(name, 0) for name in Totals._fields})


def noted(db: sqlite3.Connection, state: str) -> Sequence[NotedFile]:
    """Return the files of a state, the oldest first."""
    query = "SELECT name, reason, at_ns FROM file WHERE state = ? ORDER BY at_ns, name"
    return [NotedFile(*row) for row in db.execute(query, (state,))]


def known(db: sqlite3.Connection, names: Collection[str]) -> set[str]:
    """Return which of these files need not be shipped: shipped, refused and gone ones."""
    return set(matching(db, names, "SELECT name FROM file WHERE name IN"))


def done_archives(db: sqlite3.Connection, names: Collection[str]) -> set[str]:
    """Return which of these archives contain no file that needs to be shipped."""
    return set(matching(db, names, "SELECT name FROM archive WHERE name IN"))


def matching(db: sqlite3.Connection, names: Collection[str], query: str) -> Iterator[Any]:
    """Yield what a query of one column, which ends with `IN`, finds for these names."""
    every = list(names)
    for start in range(0, len(every), _CHUNK):
        chunk = every[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        yield from (value for (value,) in db.execute(f"{query} ({marks})", chunk))
