"""Decides which published files are combined into which archives.

An archive contains the files of one prefix that begin in the same hour, at most 128 MiB of them,
or one larger file. A file is ready when it is older than the given age. If that is an hour or more,
all files of an hour become ready together, so that an hour has one archive of each prefix.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.sinks import archives, file_names
from aqltelemetry.sinks.archives import members_of
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import is_removals
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

HOUR_NS = 3600 * NS_PER_S
_MAX_BYTES = 128 << 20
_COMPRESSED = 8  # about how many times the size of a compressed file its text has


class Ready(NamedTuple):
    """A file to archive: its parsed name, its present name, and its size in bytes."""

    name: FileName
    entry: str
    size_bytes: int


def groups(
    directory: str, files: Mapping[str, str], older_than_ns: int, now_ns: int
) -> Iterator[list[Ready]]:
    """Yield the files that are combined into each archive, oldest first.

    Args:
        directory: The monitoring directory.
        files: The files there, as in `reading.listing.Listing`.
        older_than_ns: How long ago a file must end, in nanoseconds.
        now_ns: The present time, in nanoseconds since the epoch.
    """
    limit_ns = now_ns - older_than_ns
    if older_than_ns >= HOUR_NS:
        limit_ns -= limit_ns % HOUR_NS
    accounts = _Accounts(directory, files)
    by_hour: dict[tuple[int, str], list[Ready]] = defaultdict(list)
    for entry, published in files.items():
        name = file_names.parse(published)
        if name is None or name.to_ns > limit_ns or is_removals(name):
            continue
        if name.first == name.last and not accounts.cover(name):
            continue  # another part of this segment may not be published yet
        try:
            size_bytes = syscalls.look_at(os.path.join(directory, entry)).st_size
        except FileNotFoundError:
            continue
        by_hour[name.from_ns // HOUR_NS, name.prefix].append(Ready(name, entry, size_bytes))
    for key in sorted(by_hour):
        yield from _parts(sorted(by_hour[key]))


class _Accounts:
    """The segments that have an account, in a CSV file or in an archive."""

    def __init__(self, directory: str, files: Mapping[str, str]) -> None:
        self._directory = directory
        self._files = files
        self._spans: dict[str, list[FileName]] = defaultdict(list)
        for published in files.values():
            name = file_names.parse(published)
            if name is not None and name.prefix == ACCOUNT:
                self._spans[name.writer].append(name)

    def cover(self, name: FileName) -> bool:
        """Return whether the segments of a file have an account."""
        return name.prefix == ACCOUNT or any(
            each.first <= name.first and name.last <= each.last
            for each in (*self._spans[name.writer], *self._archived(name))
        )

    def _archived(self, name: FileName) -> Iterator[FileName]:
        for entry in self._files:
            archive = archives.parse(entry)
            if archive is None or archive.prefix != ACCOUNT:
                continue
            if archive.from_ns < name.to_ns and name.from_ns < archive.to_ns:
                path = os.path.join(self._directory, entry)
                with suppress(OSError):
                    yield from (m.name for m in members_of(path) if m.name.writer == name.writer)


def _parts(ready: list[Ready]) -> Iterator[list[Ready]]:
    part: list[Ready] = []
    part_bytes = 0
    for each in ready:
        is_compressed = each.entry.endswith(file_names.COMPRESSED_SUFFIXES)
        text_bytes = each.size_bytes * (_COMPRESSED if is_compressed else 1)
        if part and part_bytes + text_bytes > _MAX_BYTES:
            yield part
            part, part_bytes = [], 0
        part.append(each)
        part_bytes += text_bytes
    if part:
        yield part
