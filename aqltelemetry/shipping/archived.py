"""Makes CSV files of the files that are in archives, so that they are shipped like any other.

The rows are those that were published, each file's under its name. Only their order within the
file may differ: they are sorted by label and time.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.errors import ArchiveError, MissingExtraError
from aqltelemetry.system import syscalls


class Unpacked(NamedTuple):
    """Paths of CSV files by the names of the files, and the files that can't be made, and why."""

    paths: Mapping[str, str]
    refused: Mapping[str, str]


class Unpacker:
    """Makes the files of one shipment at a time, in a directory of its own.

    The directory is emptied at first: a process that was killed may have left files there.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._made: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self.clear()

    def clear(self) -> None:
        """Remove all files, and the directory."""
        self._made.clear()
        self._refused.clear()
        shutil.rmtree(self._directory, ignore_errors=True)

    def unpack(self, wanted: Mapping[str, Collection[str]]) -> Unpacked:
        """Return the wanted files, and remove all others; those that were just made are kept.

        Args:
            wanted: The names of files by the path of the archive that they are in.

        Raises:
            FileNotFoundError: An archive was removed.
            OSError: A file can't be written.
            MissingExtraError: pyarrow is not installed.
        """
        every = {name for names in wanted.values() for name in names}
        for name in self._made.keys() - every:
            with suppress(FileNotFoundError):
                syscalls.unlink(self._made.pop(name))
        self._refused = {name: why for name, why in self._refused.items() if name in every}
        for path, names in wanted.items():
            new = {name for name in names if name not in self._made and name not in self._refused}
            if new:
                self._unpack(path, new)
        return Unpacked(dict(self._made), dict(self._refused))

    def _unpack(self, path: str, names: Collection[str]) -> None:
        try:
            from aqltelemetry.reading.archives.unpacking import (  # noqa: PLC0415 - an extra
                write_files,
            )
        except ImportError as exc:
            raise MissingExtraError("pyarrow", exc) from exc

        syscalls.make_directories(self._directory, 0o750)
        try:
            for each in write_files(path, names, self._directory):
                name = str(each.member.name)
                if (each.rows, each.checksum) == (each.member.rows, each.member.checksum):
                    self._made[name] = each.path
                else:
                    self._refused[name] = f"{path} does not contain its rows"
        except ArchiveError as exc:
            self._refused |= dict.fromkeys(names, str(exc))
