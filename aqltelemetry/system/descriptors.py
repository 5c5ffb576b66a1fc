"""Keeps the files of the recording off the descriptors of stdin, stdout and stderr."""

from __future__ import annotations

import os
from contextlib import suppress

_STANDARD = (0, 1, 2)


def reserve_standard_descriptors() -> None:
    """Open the null device in place of each standard descriptor that is closed.

    A daemon may have closed them. The next files to be opened would get these numbers: C code
    that writes to stderr would then write into a file of the recording, and libuv aborts the
    process when it closes a descriptor of its own below 3. Child processes do not inherit the
    replacements.
    """
    for descriptor in _STANDARD:
        with suppress(OSError):
            _reserve(descriptor)


def _reserve(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if opened not in _STANDARD:  # another thread took the number
            os.close(opened)
