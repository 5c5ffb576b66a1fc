"""The files of autopsies: their names, how they are published, and read.

`autopsy.<from>-<to>.<pid>-<writer>.000001-000001-0.json`, from the begin of the recording to the
end of its process, and a text of the same name with `.txt` for people. An autopsy is published
once; docs/reference/formats.md describes its content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.publication import take_name
from aqltelemetry.system import syscalls

PREFIX = "autopsy"
SUFFIX = ".json"
TEXT_SUFFIX = ".txt"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_FILE_MODE = 0o640


def parse(name: str) -> FileName | None:
    """Parse the name of a published autopsy or of its text; None for any other name."""
    if not name.startswith(PREFIX + "."):
        return None
    for suffix in (SUFFIX, TEXT_SUFFIX):
        if name.endswith(suffix):
            return file_names.parse(name.removesuffix(suffix) + file_names.CSV_SUFFIX)
    return None


def publish(directory: str, autopsy: Mapping[str, Any], text: str) -> str:
    """Publish an autopsy and its text; return the path of the text.

    What was published before stays as it is. Raises OSError.
    """
    span = file_names.enclosing(autopsy["begin_ns"], max(autopsy["end_ns"], autopsy["begin_ns"]))
    name = FileName(PREFIX, *span, autopsy["pid"], autopsy["writer"], 1, 1, 0)
    stem = os.path.join(directory, str(name).removesuffix(file_names.CSV_SUFFIX))
    _publish(stem + SUFFIX, json.dumps(autopsy, indent=1) + "\n", autopsy["writer"], 1)
    _publish(stem + TEXT_SUFFIX, text, autopsy["writer"], 2)
    return stem + TEXT_SUFFIX


def read(directory: str) -> Iterator[dict[str, Any]]:
    """Yield the autopsies in a directory, the oldest process first.

    A file that vanishes or is none of this format is left out.
    """
    for name in syscalls.list_directory(directory):
        if name.endswith(SUFFIX) and parse(name) is not None:
            with suppress(OSError, ValueError), open(os.path.join(directory, name), "rb") as file:
                found = json.load(file)
                if isinstance(found, dict) and found.get("version") == 1:
                    yield found


def writers(directory: str) -> set[str]:
    """Return the writers of which a directory has an autopsy."""
    names = filter(None, map(parse, syscalls.list_unsorted(directory)))
    return {name.writer for name in names}


def _publish(final: str, text: str, writer: str, number: int) -> None:
    path = os.path.join(os.path.dirname(final), file_names.temporary(PREFIX, writer, number))
    fd = syscalls.open_file(path, _CREATE, _FILE_MODE)
    try:
        syscalls.write(fd, text.encode())
    finally:
        syscalls.close(fd)
    with suppress(FileExistsError):
        take_name(path, final)
    with suppress(FileNotFoundError):
        syscalls.unlink(path)
