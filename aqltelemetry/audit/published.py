"""Counts what was published, by the bytes of the files alone, compressed or not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.compression import read_text
from aqltelemetry.reading.listing import list_published
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.account import Account, read_account


@dataclass
class Recorded:
    """What published files hold: rows by file prefix, the processes, what they dropped."""

    files: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    processes: set[tuple[int, str]] = field(default_factory=set)
    """By PID and writer."""
    dropped: int = 0
    """Observations that were not kept, by the accounts."""


def names(directory: str) -> list[str]:
    """Return the names under which files were published; none where there is no directory.

    A file that was compressed or renamed since has the same name here as before.
    """
    return sorted(_files(directory))


def count(directory: str, wanted: Collection[str]) -> Recorded:
    """Count what files hold that were published under these names; vanished ones don't count."""
    recorded = Recorded()
    drops: dict[tuple[object, str], int] = {}
    files = _files(directory)
    for name in wanted:
        parsed = file_names.parse(name)
        if parsed is None or name not in files:
            continue
        try:
            data = _read(os.path.join(directory, files[name]))
        except (FileNotFoundError, CompressedFileError):
            continue
        if parsed.prefix == ACCOUNT:
            with suppress(ValueError, KeyError):  # damaged: `verify` tells
                account = read_account(parsed, data)
                recorded.dropped += account.torn
                _note_drops(parsed.writer, account, drops)
            continue
        recorded.files += 1
        recorded.rows[parsed.prefix] += data.count(b"\n") - 1
        recorded.processes.add((parsed.pid, parsed.writer))
    recorded.dropped += sum(drops.values())
    return recorded


def _files(directory: str) -> Mapping[str, str]:
    """Map the name under which each file was published to the name that it has now."""
    try:
        found = list_published(directory).files
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {
        published: name for name, published in found.items() if file_names.is_published(published)
    }


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(read_text(fd, path))
    finally:
        os.close(fd)


def _note_drops(writer: str, account: Account, drops: dict[tuple[object, str], int]) -> None:
    # The writers of a forked child all tell the same totals.
    teller = writer if account.child is None else account.child
    for reason, total, _ in account.dropped:
        drops[teller, reason] = max(drops.get((teller, reason), 0), total)
