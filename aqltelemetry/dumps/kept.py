"""Finds the dumps of a recording, and removes the oldest ones above a number or a size."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from aqltelemetry.runtime.dump_process import DUMPS
from aqltelemetry.settings import OPTIONS
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

UNFINISHED = ".new"
"""The suffix of a dump that is being made."""
KEPT = 10
"""How many dumps are kept, by default."""
KEPT_BYTES: int = OPTIONS["keep_dump_bytes"].default
"""How large all dumps may be together, by default; the newest one is kept all the same."""
_NAME = re.compile(r"(?P<at>\d{8}T\d{6}Z)-[A-Za-z0-9._-]+", re.ASCII)
_TIME = "%Y%m%dT%H%M%SZ"
_MAX_CHARS = 60
_STALE_S = 600.0


class Dump(NamedTuple):
    """A dump: its path, and when it was made, in nanoseconds since the epoch."""

    path: str
    at_ns: int


def name_of(at_ns: int, reason: str) -> str:
    """Return the name of a dump: when and why it was made."""
    at = datetime.fromtimestamp(at_ns // NS_PER_S, UTC).strftime(_TIME)
    words = re.findall(r"[A-Za-z0-9_.]+", reason.replace(",", ""))
    return f"{at}-{'-'.join(words)[:_MAX_CHARS].strip('.-') or 'dump'}"


def find(directory: str) -> Sequence[Dump]:
    """Return the dumps of a monitoring directory, oldest first."""
    folder = os.path.join(directory, DUMPS)
    names = (name for name in _names(folder) if not name.endswith(UNFINISHED))
    found = ((name, _NAME.fullmatch(name)) for name in names)
    return [Dump(os.path.join(folder, name), _at_ns(match["at"])) for name, match in found if match]


def remove_oldest(directory: str, keep: int = KEPT, keep_bytes: int = KEPT_BYTES) -> None:
    """Remove the oldest dumps above a number and a size, and what a killed process left."""
    size_bytes = 0
    for number, dump in enumerate(reversed(find(directory))):
        size_bytes += _size_bytes(dump.path)
        if number >= max(keep, 1) or (number and size_bytes > keep_bytes):
            shutil.rmtree(dump.path, ignore_errors=True)
    folder = os.path.join(directory, DUMPS)
    for name in _names(folder):
        path = os.path.join(folder, name)
        if name.endswith(UNFINISHED) and _age_s(path) > _STALE_S:
            shutil.rmtree(path, ignore_errors=True)


def _age_s(path: str) -> float:
    """Return how long ago something was put into a folder, in seconds; 0 if it is gone."""
    with suppress(OSError):
        return epoch_ns() / NS_PER_S - os.lstat(path).st_mtime
    return 0.0


def _names(folder: str) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return ()


def _size_bytes(path: str) -> int:
    """Return the size of all files below a path; a file that is gone counts as empty."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _at_ns(text: str) -> int:
    return int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()) * NS_PER_S
