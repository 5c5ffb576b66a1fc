"""Links to archives in another directory, under which readers of the first one find them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from aqltelemetry.archive.archive_file import synchronise
from aqltelemetry.sinks import archives
from aqltelemetry.system import syscalls


def link(directory: str, target: str, names: Iterable[str]) -> None:
    """Have a directory contain links to files of another one, and write them to the disk.

    A link whose file is not there any more is replaced.

    Raises:
        OSError: A link can't be made.
    """
    made = False
    for name in names:
        path = os.path.join(directory, name)
        if archives.why_unreadable(path):
            with suppress(FileNotFoundError):
                syscalls.unlink(path)
        with suppress(FileExistsError):
            syscalls.link_by_name(os.path.join(os.path.realpath(target), name), path)
            made = True
    if made:
        synchronise(directory)


def renew(directory: str, target: str) -> None:
    """Have links whose files were moved into another directory point to it; raises OSError."""
    there = set(syscalls.list_directory(target))
    link(
        directory,
        target,
        (
            name
            for name in syscalls.list_directory(directory)
            if name in there and archives.why_unreadable(os.path.join(directory, name))
        ),
    )
