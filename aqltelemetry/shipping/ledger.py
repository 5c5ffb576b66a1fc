"""What a shipper has shipped to one destination: a small SQLite database.

There is one for each destination, by default in the hidden directory `.ship` of the first
monitoring directory. A lock on a file next to it is held while a shipper runs; it ends with
the process, however that ends. Each change is one transaction, written to the disk before it
is relied on.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Self

from aqltelemetry.errors import LedgerError
from aqltelemetry.shipping import ledger_reader as reader
from aqltelemetry.shipping.destination import Receipt
from aqltelemetry.shipping.ledger_lock import locked
from aqltelemetry.shipping.ledger_reader import GONE, REFUSED, SHIPPED, NotedFile, Totals
from aqltelemetry.sinks import file_names
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

_NOTES_KEPT_NS = 7 * 86_400 * NS_PER_S
# Rollback journal: a reader needs no shared memory, so it works on any file system and for
# a user who may only read. EXTRA: a commit has reached the disk before it returns.
_SETTINGS = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;"
_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS file (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, bytes INTEGER NOT NULL, at_ns INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS file_at ON file (state, at_ns);
CREATE TABLE IF NOT EXISTS archive (name TEXT PRIMARY KEY, at_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS planned (position INTEGER PRIMARY KEY, name TEXT, bytes INTEGER);
CREATE TABLE IF NOT EXISTS note (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, prefix TEXT NOT NULL, to_ns INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS note_to ON note (prefix, to_ns);
CREATE TABLE IF NOT EXISTS total (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('shipper', lower(hex(randomblob(8))));
INSERT OR IGNORE INTO total VALUES
    ('files', 0), ('rows', 0), ('bytes', 0), ('refused', 0), ('gone', 0), ('deleted', 0);
PRAGMA user_version = 2;
COMMIT;
"""


class PlannedFile(NamedTuple):
    """A file of a planned shipment: the name under which it was published, and its size."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A shipment that was planned, and of which it is unknown whether it has arrived."""

    id: str
    prefix: str
    files: Sequence[PlannedFile]


class Ledger:
    """The ledger of one destination; use it as a context manager, on one thread.

    Args:
        path: The file, from `ledger_path`; it and its directory are made if they are missing.
        identity: The destination, as `Target.identity`, for people who look into the ledger.

    Raises:
        LedgerBusyError: Another shipper has locked it.
        LedgerError: It can't be made or read.
    """

    def __init__(self, path: str, identity: str) -> None:
        self._path = path
        self._lock_fd = locked(f"{path}.lock", identity)
        try:
            self._db = sqlite3.connect(path, timeout=reader.BUSY_S, isolation_level=None)
            self._db.executescript(_SETTINGS)
            reader.check_version(self._db, path)
            self._db.executescript(_TABLES)
            self._set("destination", identity)
        except sqlite3.Error as exc:
            syscalls.close(self._lock_fd)
            raise LedgerError(path, str(exc)) from exc
        except BaseException:
            syscalls.close(self._lock_fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        syscalls.close(self._lock_fd)

    @property
    def path(self) -> str:
        """The file of the ledger."""
        return self._path

    @property
    def shipper(self) -> str:
        """Identifies this ledger: 16 random hexadecimal digits."""
        return reader.get(self._db, "shipper")

    @property
    def is_new(self) -> bool:
        """Whether nothing has been shipped yet, as far as this ledger knows."""
        return self.totals().files == 0

    def use(self, directories: Iterable[str]) -> None:
        """Note which directories are shipped, for `aqltelemetry ship status`."""
        with self._transaction():
            paths = [os.path.realpath(each) for each in directories]
            self._set("directories", json.dumps(paths))

    def failing(self, reason: str, at_ns: int) -> None:
        """Note why the destination can't be reached now."""
        with self._transaction():
            self._set("failing", reason)
            self._set("failing_ns", str(at_ns))

    def reached(self) -> None:
        """Note that the destination is reached again."""
        with self._transaction():
            self._db.execute("DELETE FROM meta WHERE key IN ('failing', 'failing_ns')")

    def notes(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Return the notes of the destination that have these keys."""
        query = "SELECT value FROM note WHERE key = ?"
        found = {key: self._db.execute(query, (key,)).fetchone() for key in keys}
        return {key: row[0] for key, row in found.items() if row is not None}

    def known(self, names: Collection[str]) -> set[str]:
        """Return which of these files need not be shipped: shipped, refused and gone ones."""
        return reader.known(self._db, names)

    def done_archives(self, names: Collection[str]) -> set[str]:
        """Return which of these archives contain no file that needs to be shipped."""
        return reader.done_archives(self._db, names)

    def note_archive(self, name: str, members: Collection[str]) -> None:
        """Note that all files of an archive are shipped or gone; not, if one was refused.

        So nobody has to read the archive again, and the ledger can forget its files.
        """
        latest = "SELECT max(at_ns) FROM file WHERE name IN"
        refused = f"SELECT name FROM file WHERE state = '{REFUSED}' AND name IN"  # noqa: S608
        if any(reader.matching(self._db, members, refused)):
            return
        times = reader.matching(self._db, members, latest)
        with self._transaction():
            row = (name, max(filter(None, times), default=0))
            self._db.execute("INSERT OR REPLACE INTO archive VALUES (?, ?)", row)

    def plan(self, plan: Plan) -> None:
        """Store a shipment that is about to be sent."""
        with self._transaction():
            self._db.execute("DELETE FROM planned")
            rows = [(at, file.name, file.size_bytes) for at, file in enumerate(plan.files)]
            self._db.executemany("INSERT INTO planned VALUES (?, ?, ?)", rows)
            self._set("plan", plan.id)
            self._set("prefix", plan.prefix)

    def planned(self) -> Plan | None:
        """Return the shipment whose arrival is unknown; None if there is none."""
        rows = self._db.execute("SELECT name, bytes FROM planned ORDER BY position").fetchall()
        if not rows:
            return None
        return Plan(
            reader.get(self._db, "plan"),
            reader.get(self._db, "prefix"),
            [PlannedFile(*row) for row in rows],
        )

    def forget_plan(self) -> None:
        """Remove the planned shipment: nothing of it has arrived."""
        with self._transaction():
            self._db.execute("DELETE FROM planned")

    def shipped(self, plan: Plan, receipt: Receipt, at_ns: int) -> None:
        """Note that a shipment has arrived, except for the files that were refused."""
        arrived = [file for file in plan.files if file.name not in receipt.refused]
        refused = [file for file in plan.files if file.name in receipt.refused]
        with self._transaction():
            self._db.execute("DELETE FROM planned")
            self._store(arrived, SHIPPED, at_ns)
            self._store(refused, REFUSED, at_ns, receipt.refused)
            self._add(rows=receipt.rows, refused=len(refused))
            if arrived:
                self._set("shipped_ns", str(at_ns))
            self._keep_notes(plan, receipt.notes)

    def _keep_notes(self, plan: Plan, notes: Mapping[str, str]) -> None:
        """Keep notes, and forget those of recordings that ended long before these files."""
        names = (file_names.parse(file.name) for file in plan.files)
        to_ns = max((name.to_ns for name in names if name is not None), default=0)
        rows = [(key, text, plan.prefix, to_ns) for key, text in notes.items()]
        self._db.executemany("INSERT OR REPLACE INTO note VALUES (?, ?, ?, ?)", rows)
        old = "DELETE FROM note WHERE prefix = ? AND to_ns < ?"
        self._db.execute(old, (plan.prefix, to_ns - _NOTES_KEPT_NS))

    def arrived(self, files: Iterable[PlannedFile], at_ns: int) -> None:
        """Note that the destination has had these files before; the number of rows is unknown."""
        with self._transaction():
            self._store(list(files), SHIPPED, at_ns)

    def gone(self, files: Iterable[PlannedFile], at_ns: int) -> None:
        """Note that files were removed before they were shipped."""
        found = list(files)
        with self._transaction():
            self._store(found, GONE, at_ns)
            self._add(gone=len(found))

    def deleted(self, files: int) -> None:
        """Count shipped files that the shipper has removed here."""
        with self._transaction():
            self._add(deleted=files)

    def shipped_before(self, at_ns: int, names: Collection[str]) -> set[str]:
        """Return which of these files were shipped before a time, in ns since the epoch."""
        query = f"SELECT name FROM file WHERE state = '{SHIPPED}' AND at_ns < {int(at_ns)}"  # noqa: S608
        return set(reader.matching(self._db, names, f"{query} AND name IN"))

    def archives_before(self, at_ns: int, names: Collection[str]) -> set[str]:
        """Return the archives of which all files were shipped before a time, in ns."""
        query = f"SELECT name FROM archive WHERE at_ns < {int(at_ns)} AND name IN"  # noqa: S608
        return set(reader.matching(self._db, names, query))

    def refuse(self, files: Mapping[str, str], at_ns: int) -> None:
        """Note that files can't be shipped, and the reason of each, by name."""
        with self._transaction():
            self._store([PlannedFile(name, 0) for name in files], REFUSED, at_ns, files)
            self._add(refused=len(files))

    def retry_refused(self) -> int:
        """Forget which files were refused, so that they are sent again; return their number."""
        with self._transaction():
            return self._db.execute("DELETE FROM file WHERE state = ?", (REFUSED,)).rowcount

    def forget(
        self, before_ns: int, present: Collection[str], archives: Collection[str] = ()
    ) -> None:
        """Remove files and archives that left the directories and were shipped before a time.

        Of `archives`, which are there, the files need not be `present` if the archive is done.
        """
        query = "SELECT name FROM file WHERE state != ? AND at_ns < ?"
        old = self._db.execute(query, (REFUSED, before_ns))
        names = [(name,) for (name,) in old if name not in present]
        old = self._db.execute("SELECT name FROM archive WHERE at_ns < ?", (before_ns,))
        gone = [(name,) for (name,) in old if name not in archives]
        with self._transaction():
            self._db.executemany("DELETE FROM file WHERE name = ?", names)
            self._db.executemany("DELETE FROM archive WHERE name = ?", gone)

    def totals(self) -> Totals:
        """Return what has been shipped since the ledger was made."""
        return reader.totals(self._db)

    def refused(self) -> Sequence[NotedFile]:
        """Return the refused files."""
        return reader.noted(self._db, REFUSED)

    def _store(
        self,
        files: Sequence[PlannedFile],
        state: str,
        at_ns: int,
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        reasons = reasons or {}
        rows = [
            (each.name, state, each.size_bytes, at_ns, reasons.get(each.name, "")) for each in files
        ]
        self._db.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", rows)
        if state == SHIPPED:
            self._add(files=len(files), bytes=sum(each.size_bytes for each in files))

    def _add(self, **amounts: int) -> None:
        rows = [(value, name) for name, value in amounts.items()]
        self._db.executemany("UPDATE total SET value = value + ? WHERE name = ?", rows)

    def _set(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as exc:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(exc, sqlite3.Error):
                raise LedgerError(self._path, str(exc)) from exc
            raise
