"""Keeps the published files of a directory within bounds of size and age."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry import filenames, system
from aqltelemetry.clock import breathe, epoch_ns

_NS_PER_S = 1_000_000_000
_SWEEP_NS = 60 * _NS_PER_S
# Far longer than any file is being written; its writer, should it live, starts anew.
_STALE_TMP_NS = 600 * _NS_PER_S
_BREATH_FILES = 64


class _Published(NamedTuple):
    to_ns: int
    size_bytes: int
    path: str


class Retention:
    """Removes the oldest published files of any process, once there is too much.

    Only files whose names are ours are counted or removed, and temporary files
    that a killed process left. `removed` counts the published ones.
    """

    def __init__(
        self,
        directory: str,
        keep_bytes: int,
        keep_s: float,
        now_ns: Callable[[], int] = epoch_ns,
    ) -> None:
        self.removed = 0
        self._directory = directory
        self._keep_bytes = keep_bytes
        self._keep_ns = int(keep_s * _NS_PER_S)
        self._now_ns = now_ns
        self._known_bytes = 0
        self._swept_ns: int | None = None

    def added(self, size_bytes: int) -> None:
        """Note that so much was published; sweep if that may be too much, or once a minute."""
        self._known_bytes += size_bytes
        now_ns = self._now_ns()
        due = self._swept_ns is None or not 0 <= now_ns - self._swept_ns < _SWEEP_NS
        if due or self._known_bytes > self._keep_bytes:
            self.sweep()

    def sweep(self) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        now_ns = self._swept_ns = self._now_ns()
        files = sorted(self._scan(now_ns))
        total = sum(file.size_bytes for file in files)
        for file in files:
            if total <= self._keep_bytes and file.to_ns >= now_ns - self._keep_ns:
                break
            # Somebody else, a reader or a sibling process, may have been faster.
            with suppress(FileNotFoundError):
                system.unlink(file.path)
                self.removed += 1
            total -= file.size_bytes
        self._known_bytes = total

    def _scan(self, now_ns: int) -> list[_Published]:
        found = []
        with system.scan_directory(self._directory) as entries:
            for index, entry in enumerate(entries):
                if index % _BREATH_FILES == 0:
                    breathe()
                with suppress(FileNotFoundError):
                    if entry.name.endswith(filenames.TMP_SUFFIX):
                        self._remove_stale(entry, now_ns)
                    elif (name := filenames.parse(entry.name)) is not None:
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append(_Published(name.to_ns, size, entry.path))
        return found

    @staticmethod
    def _remove_stale(entry: os.DirEntry[str], now_ns: int) -> None:
        ours = filenames.is_temporary(entry.name)
        if ours and entry.stat(follow_symlinks=False).st_mtime_ns < now_ns - _STALE_TMP_NS:
            system.unlink(entry.path)
