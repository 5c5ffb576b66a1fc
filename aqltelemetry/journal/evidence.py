"""What a process leaves next to its segments for the case that it dies: see `autopsy`.

Next to the requests in flight, a writer's directory may have the templates of the application's
routes, what the process itself said just before its end, and how it ended, said by its parent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal.dir_lock import NEW_SUFFIX
from aqltelemetry.journal.files import read_file
from aqltelemetry.journal.in_flight import FILE_BYTES, FILE_NAME, InFlight, read_in_flight
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

ROUTES_NAME = "routes.json"
LAST_WORDS_NAME = "last-words.json"
EXIT_NAME = "exit.json"
NAMES = frozenset({FILE_NAME, ROUTES_NAME, LAST_WORDS_NAME, EXIT_NAME})
"""The names of these files."""
OF_A_DEATH = frozenset({FILE_NAME, LAST_WORDS_NAME})
"""Those of which each shows that a process ended without a stop."""
EXITED = "SystemExit"
"""The reason in the last words of a process that ends by an exception in a request."""
ABORTED = "aborted"
"""The reason in the last words of a worker that its server aborts."""
_MAX_BYTES = 1 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Evidence(NamedTuple):
    """What a dead writer left.

    Attributes:
        writer: Its name.
        in_flight: The requests in flight; None if they are missing or unreadable.
        routes: The templates of its application's routes.
        last_words: What it said just before its end; see `recording.last_words`.
        exit: How it ended, said by its parent; see `note_exit`.
    """

    writer: str
    in_flight: InFlight | None
    routes: Sequence[str]
    last_words: Mapping[str, Any]
    exit: Mapping[str, Any]


def read_evidence(directory: Path) -> Evidence:
    """Return what the writer in a directory left; what can't be read is left out."""
    in_flight = None
    with suppress(OSError, SegmentError):
        in_flight = read_in_flight(read_file(directory / FILE_NAME, FILE_BYTES))
    routes = _read(directory / ROUTES_NAME)
    last_words, end = _read(directory / LAST_WORDS_NAME), _read(directory / EXIT_NAME)
    return Evidence(
        directory.name,
        in_flight,
        [str(each) for each in routes] if isinstance(routes, list) else [],
        last_words if isinstance(last_words, dict) else {},
        end if isinstance(end, dict) else {},
    )


def write_evidence(directory: Path, name: str, content: object) -> None:
    """Write one of the JSON files in a writer's directory, whole or not at all.

    Raises OSError, also if the directory is gone.
    """
    made = directory / (name + NEW_SUFFIX)
    fd = syscalls.open_file(made, _CREATE)
    try:
        syscalls.write(fd, json.dumps(content).encode())
    finally:
        syscalls.close(fd)
    syscalls.rename(made, directory / name)


def remove_evidence(directory: Path, names: Iterable[str] = NAMES) -> None:
    """Remove these files; the caller holds the lock of the directory."""
    for name in names:
        with suppress(OSError):
            syscalls.unlink(directory / name)


def has_last_words(directory: Path, within_s: float = 10.0) -> bool:
    """Return whether the writer in a directory wrote last words, within the last seconds."""
    try:
        said_ns = syscalls.look_at(directory / LAST_WORDS_NAME).st_mtime_ns
    except OSError:
        return False
    return abs(epoch_ns() - said_ns) < within_s * NS_PER_S


def _read(path: Path) -> Any:
    with suppress(OSError, SegmentError, ValueError):
        return json.loads(read_file(path, _MAX_BYTES))
    return None
