"""Makes a dump: a copy of the last seconds of a recording, which can be read like a recording.

Published files never change, so they become hard links. Segments of the journal are copied first,
and then published within the dump as those of a dead writer, so that each row is there once: what
was published meanwhile is covered by its file. A dump gets its name when it is complete.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.audit.recover import recover
from aqltelemetry.dumps import kept
from aqltelemetry.errors import SegmentError
from aqltelemetry.journal.dead_writers import find_writers
from aqltelemetry.journal.dir_lock import is_alive
from aqltelemetry.journal.files import read_file, segment_number
from aqltelemetry.journal.format import ANCHORS_AT, RECORD_BYTES
from aqltelemetry.journal.labels import TABLE_BYTES, TABLE_NAME
from aqltelemetry.journal.location import all_roots
from aqltelemetry.runtime.dump_process import DUMPS
from aqltelemetry.settings import Settings, settings
from aqltelemetry.sinks import autopsies, file_names, stall_details
from aqltelemetry.sinks.archives import is_archive
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, epoch_ns, utc

LAST_S = 60.0
"""How many seconds a dump contains, by default."""
DESCRIPTION = "dump.json"
_JOURNAL = ".journal"
_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640
_KEEP = {"keep_bytes": 1 << 60, "keep_s": 1e9, "journal_dir": "auto"}


class Order(NamedTuple):
    """What a dump is made of, and why.

    Attributes:
        directory: The monitoring directory.
        reason: Why it is made; its first words become a part of the name.
        last_s: How many seconds before `at_ns` are copied.
        at_ns: The time of the dump, in nanoseconds since the epoch.
        journal_dir: The option `journal_dir` of the recording.
        most_bytes: The largest size of what is copied of the journal; the oldest is left out.
    """

    directory: str
    reason: str
    last_s: float = LAST_S
    at_ns: int = 0
    journal_dir: str = "auto"
    most_bytes: int = kept.KEPT_BYTES


def make(order: Order) -> str:
    """Make a dump; return its path.

    Raises:
        OSError: It can't be made, or the directory can't be read.
    """
    at_ns = order.at_ns or epoch_ns()
    name = kept.name_of(at_ns, order.reason)
    folder = os.path.join(order.directory, DUMPS)
    os.makedirs(folder, _DIRECTORY_MODE, exist_ok=True)
    unfinished = os.path.join(folder, f"{name}.{os.getpid()}{kept.UNFINISHED}")
    os.mkdir(unfinished, _DIRECTORY_MODE)
    try:
        copied = _copy_journals(order, unfinished)
        _link_files(order, unfinished, at_ns - round(order.last_s * NS_PER_S))
        asyncio.run(_publish(unfinished, copied.running))
        _describe(order, unfinished, at_ns, copied.left_out)
        return _rename(unfinished, os.path.join(folder, name))
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


class _Copy(NamedTuple):
    """What was copied of the journal: writers whose processes live, and segments left out."""

    running: Sequence[str]
    left_out: int


def _copy_journals(order: Order, to: str) -> _Copy:
    """Copy the segments of all writers, newest first."""
    running: list[str] = []
    uid = os.stat(order.directory).st_uid
    segments: list[tuple[float, Path]] = []
    for root in all_roots(order.directory, order.journal_dir, uid=uid):
        for writer in find_writers(root):
            # Before the copy, which may contain the last records of one that dies meanwhile.
            if is_alive(writer):
                running.append(writer.name)
            with suppress(FileNotFoundError, NotADirectoryError):  # another one recovered it
                segments += _segments(writer)
    left_bytes, left_out = order.most_bytes, 0
    for _, path in sorted(segments, reverse=True):
        with suppress(FileNotFoundError, SegmentError):
            data = read_file(path, uid=uid)
            if not any(data[ANCHORS_AT : ANCHORS_AT + RECORD_BYTES]):
                continue  # nothing was recorded into it
            left_bytes -= len(data)
            if left_bytes < 0:
                left_out += 1
            else:
                _copy_segment(path, data, Path(to, _JOURNAL, path.parent.name), uid)
    return _Copy(running, left_out)


def _segments(writer: Path) -> Iterator[tuple[float, Path]]:
    """Yield the segments of a writer, with when the file of each was made or changed."""
    for name in os.listdir(writer):
        if segment_number(name) is not None:
            with suppress(FileNotFoundError):
                yield (writer / name).stat().st_mtime, writer / name


def _copy_segment(path: Path, data: bytes, to: Path, uid: int) -> None:
    if not to.exists():
        to.mkdir(mode=0o700, parents=True)
        to.parent.chmod(0o700)
    (to / path.name).write_bytes(data)
    # Again after each segment, whose labels it must contain.
    with suppress(FileNotFoundError, SegmentError):
        (to / TABLE_NAME).write_bytes(read_file(path.parent / TABLE_NAME, TABLE_BYTES, uid))


def _link_files(order: Order, to: str, since_ns: int) -> None:
    """Link the published files that may contain what was recorded since a time."""
    since = file_names.stamp(since_ns)
    for name in _published(order.directory):
        if file_names.may_overlap(name, since, "~"):
            source, target = os.path.join(order.directory, name), os.path.join(to, name)
            with suppress(FileNotFoundError):  # retention removed it
                _link(source, target)
    for name in os.listdir(order.directory):
        if name.startswith(stall_details.PREFIX) and file_names.is_temporary(name):
            with suppress(FileNotFoundError):  # it was published
                shutil.copyfile(os.path.join(order.directory, name), os.path.join(to, name))
    stall_details.recover(to)


def _link(source: str, target: str) -> None:
    try:
        syscalls.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # this file system has no hard links, or the file is another user's
        shutil.copyfile(source, target)


def _published(directory: str) -> Iterator[str]:
    for name in os.listdir(directory):
        is_other = stall_details.parse(name) or autopsies.parse(name)
        if file_names.is_published(name) or is_archive(name) or is_other:
            yield name


async def _publish(dump: str, running: Sequence[str]) -> None:
    """Publish the copied segments into the dump, and remove the copies."""
    journal = Path(dump, _JOURNAL)
    chosen: Settings = settings(dump, _KEEP, {})
    await recover(chosen, [journal], share=1.0, running=frozenset(running))
    shutil.rmtree(journal, ignore_errors=True)


def _describe(order: Order, dump: str, at_ns: int, left_out: int) -> None:
    """Write why and when the dump was made."""
    document = {
        "version": 1,
        "reason": order.reason,
        "at": utc(at_ns),
        "at_ns": at_ns,
        "last_s": order.last_s,
        "segments_left_out": left_out,
        "host": socket.gethostname(),
        "directory": os.path.abspath(order.directory),
    }
    text = json.dumps(document, indent=2) + "\n"
    path = Path(dump, DESCRIPTION)
    path.write_text(text, encoding="utf-8")
    path.chmod(_FILE_MODE)


def _rename(unfinished: str, path: str) -> str:
    """Give a dump its name, or another one if there is one of this name; return its path."""
    number = 1
    chosen = path
    while True:
        try:
            syscalls.rename(unfinished, chosen)
        except OSError:
            if not os.path.exists(chosen):
                raise
            number += 1
            chosen = f"{path}-{number}"
        else:
            return chosen
