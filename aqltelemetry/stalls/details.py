"""Writes the details of stalls while they are recorded; see `sinks.stall_details`."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, NamedTuple

from aqltelemetry.sinks import stall_details
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, epoch_ns
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import Lock

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_FILE_MODE = 0o640
_SCAN_NS = 60 * NS_PER_S
_TRIES = 10


class _Open(NamedTuple):
    fd: int
    path: str
    since_ns: int


class DetailsFile:
    """Writes the details of one recording.

    Args:
        directory: The monitoring directory.
        writer: The name of the recording, 16 hexadecimal digits.
        max_age_s: The age in seconds at which a file is published.
        executor: Runs what waits for the disk.
        now_ns: Returns the time in nanoseconds since the epoch.
    """

    def __init__(
        self,
        directory: str,
        writer: str,
        max_age_s: float,
        executor: Executor,
        now_ns: Callable[[], int] = epoch_ns,
    ) -> None:
        self._directory = directory
        self._writer = writer
        self._max_age_ns = int(max_age_s * NS_PER_S)
        self._executor = executor
        self._now_ns = now_ns
        self._lock = Lock()
        self._file: _Open | None = None
        self._number = 0
        self._is_closed = False
        self._scanned_ns = 0
        self._has_failed = False
        self._pid = os.getpid()

    def add(self, detail: Mapping[str, Any]) -> None:
        """Write the details of a stall; failures are logged once and not raised."""
        line = json.dumps({**detail, "writer": self._writer}, separators=(",", ":")) + "\n"
        with self._lock:
            if self._is_closed:
                return
            try:
                self._file = self._file or self._open()
                os.write(self._file.fd, line.encode())
            except OSError as exc:
                self._fail(exc)

    async def tend(self) -> None:
        """Publish the file if it is old, and what killed processes left, on the executor."""
        now_ns = self._now_ns()
        file = self._file
        is_old = file is not None and not 0 <= now_ns - file.since_ns < self._max_age_ns
        if is_old or not 0 <= now_ns - self._scanned_ns < _SCAN_NS:
            self._scanned_ns = now_ns
            self._executor.submit(self.publish, is_old=is_old)

    def publish(self, *, is_old: bool = True) -> None:
        """Publish what killed processes left and, if it is old, the file of this process."""
        with self._lock:
            try:
                if is_old:
                    self._publish()
                stall_details.recover(self._directory)
            except OSError as exc:
                self._fail(exc)

    def close(self) -> None:
        """Publish the file; details that come later are dropped."""
        with self._lock:
            self._is_closed = True
            try:
                self._publish()
            except OSError as exc:
                self._fail(exc)

    def abandon_in_child(self) -> None:
        """Leave the file to the parent process."""
        self._is_closed = True
        file, self._file = self._file, None
        if file is not None:
            os.close(file.fd)

    def _open(self) -> _Open:
        for _ in range(_TRIES):
            self._number += 1
            name = stall_details.temporary(self._writer, self._number)
            path = os.path.join(self._directory, name)
            fd = syscalls.open_file(path, _APPEND, _FILE_MODE)
            try:
                # Before it is locked, another process may take it for that of a killed one.
                with suppress(BlockingIOError):
                    syscalls.lock(fd)
                    if os.fstat(fd).st_nlink:
                        return _Open(fd, path, self._now_ns())
            except OSError:
                syscalls.close(fd)
                raise
            syscalls.close(fd)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)

    def _publish(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                stall_details.publish(self._directory, file.path)
            finally:
                syscalls.close(file.fd)

    def _fail(self, exc: OSError) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning("the details of stalls can't be written: %s", exc)
