"""Counts published observations from the bytes of the files, compressed or not."""

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
from aqltelemetry.sinks.account import read_account, recordings


@dataclass
class Published:
    """The content of published files.

    `rows` by file prefix; `processes` as PID and writer; `dropped` observations, by the
    accounts.
    """

    files: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    processes: set[tuple[int, str]] = field(default_factory=set)
    dropped: int = 0


def names(directory: str) -> list[str]:
    """Return the names under which files were published; none if there is no directory.

    A file that was compressed or renamed later is listed under its first name.
    """
    return sorted(_files(directory))


def count(directory: str, wanted: Collection[str]) -> Published:
    """Count the content of the files published under these names; missing files don't count."""
    found = Published()
    children: dict[str, int | None] = {}
    drops: dict[tuple[str, str], int] = {}
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
            with suppress(ValueError, KeyError):  # damaged, which `verify` reports
                account = read_account(parsed, data)
                found.dropped += account.torn
                children[parsed.writer] = account.child
                for reason, total, _ in account.dropped:
                    known = drops.get((parsed.writer, reason), 0)
                    drops[parsed.writer, reason] = max(known, total)
            continue
        found.files += 1
        found.rows[parsed.prefix] += data.count(b"\n") - 1
        found.processes.add((parsed.pid, parsed.writer))
    found.dropped += sum(_once(drops, recordings(children)).values())
    return found


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


def _once(
    drops: Mapping[tuple[str, str], int], stands_for: Mapping[str, str]
) -> Mapping[tuple[str, str], int]:
    """Return the drops by recording and reason, of each the largest total."""
    found: dict[tuple[str, str], int] = {}
    for (writer, reason), total in drops.items():
        key = stands_for[writer], reason
        found[key] = max(found.get(key, 0), total)
    return found
