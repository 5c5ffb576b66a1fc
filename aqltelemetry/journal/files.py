"""Reads files that other users may have created: follows no links, and never blocks."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal.format import SEGMENT_BYTES
from aqltelemetry.system import syscalls

SEGMENT_SUFFIX = ".seg"
_SEGMENT_NAME = re.compile(r"([0-9]{1,18})\.seg")


def segment_number(name: str) -> int | None:
    """Return the number in the name of a segment's file; None for any other name."""
    match = _SEGMENT_NAME.fullmatch(name)
    return None if match is None else int(match[1])


def segment_name(number: int) -> str:
    """Return the name of a segment's file."""
    return f"{number:06d}{SEGMENT_SUFFIX}"


def read_file(path: Path, size_bytes: int = SEGMENT_BYTES, uid: int | None = None) -> bytes:
    """Return the first bytes of a file that belongs to a user, by default this process's.

    Raises OSError if it can't be read, and SegmentError if it is not a regular file of that
    user, or has another hard link.
    """
    owner = os.geteuid() if uid is None else uid
    # The opening of a pipe would wait for its other end.
    fd = syscalls.open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = syscalls.describe(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != owner:
            msg = f"{path.name}: must be a regular file of user {owner}'s, without another name"
            raise SegmentError(msg)
        pieces = []
        while size_bytes > 0 and (piece := syscalls.read(fd, size_bytes)):
            pieces.append(piece)
            size_bytes -= len(piece)
        return b"".join(pieces)
    finally:
        syscalls.close(fd)
