"""Reads archives as evidence: each CSV file in them as if it were there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.archives.checksums import add_by_code, keys
from aqltelemetry.reading.archives.rows import Part, read_parts
from aqltelemetry.sinks.account import AccountRow
from aqltelemetry.sinks.archives import Member, read_members
from aqltelemetry.sinks.file_names import FileName


class ArchivedFile(NamedTuple):
    """A CSV file in an archive.

    `rows` is their number, None if they are not those that the file had. `account` are the rows
    of an account.
    """

    name: FileName
    rows: int | None
    account: list[AccountRow]


def archived_files(path: str) -> Iterator[ArchivedFile]:
    """Yield the files in an archive, whose rows are compared with their checksums.

    Raises:
        FileNotFoundError: It was removed.
        OSError: It can't be read, or is damaged.
        MissingExtraError: pyarrow is not installed.
    """
    members = read_members(path)
    counts = np.zeros(len(members), np.int64)
    sums = np.zeros(len(members), np.uint64)
    accounts: list[list[AccountRow]] = [[] for _ in members]
    for part in read_parts(path):
        counts += np.bincount(part.file_codes, minlength=len(members))
        add_by_code(sums, part.file_codes, keys(part.rows))
        if members[0].name.prefix == ACCOUNT:
            _add_accounts(accounts, part)
    found = zip(members, counts.tolist(), sums.tolist(), accounts, strict=True)
    for member, count, total, account in found:
        yield ArchivedFile(member.name, _checked(member, count, total), account)


def _checked(member: Member, count: int, total: int) -> int | None:
    return count if (count, total) == (member.rows, member.checksum) else None


def _add_accounts(accounts: list[list[AccountRow]], part: Part) -> None:
    rows = part.rows
    columns = (part.file_codes, rows.timepoints_ns, rows.measurements, rows.label_codes)
    for code, at_ns, value, label in zip(*(each.tolist() for each in columns), strict=True):
        accounts[code].append(AccountRow(at_ns, int(value), rows.labels[label]))
