"""Copies the details of stalls to archives in another directory, which are read alone there."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from aqltelemetry.sinks import file_names, stall_details
from aqltelemetry.sinks.publication import take_name
from aqltelemetry.system import syscalls


def copy_details(directory: str, target: str, before_ns: int) -> int:
    """Copy the files of details that end before a time; return how many were not there.

    They stay where they are, too, until retention removes them. A copy gets its name after it is
    complete.

    Raises:
        OSError: A file can't be copied.
    """
    there = set(syscalls.list_directory(target))
    copied = 0
    for name in syscalls.list_directory(directory):
        parsed = stall_details.parse(name)
        if parsed is None or name in there or parsed.to_ns > before_ns:
            continue
        path = os.path.join(
            target, file_names.temporary(stall_details.PREFIX, parsed.writer, parsed.first)
        )
        with suppress(FileNotFoundError):  # retention may remove it meanwhile
            shutil.copyfile(os.path.join(directory, name), path)
            with suppress(FileExistsError):
                take_name(path, os.path.join(target, name))
                copied += 1
            syscalls.unlink(path)
    return copied
