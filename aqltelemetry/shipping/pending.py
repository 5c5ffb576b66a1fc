"""Lists the published files of directories that are still to be shipped, in order."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.listing import list_published
from aqltelemetry.shipping.ledger import Plan, PlannedFile
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import is_removals
from aqltelemetry.system import syscalls

_MAX_FILES = 20_000


class PendingFile(NamedTuple):
    """A published file: its parsed name, its present path, and its size as it is."""

    name: FileName
    published: str
    path: str
    size_bytes: int


class Present(NamedTuple):
    """The published files that are in the directories now.

    `paths` maps the name under which each was published to its present path. `unknown` are
    the directories that could not be read, with the reason.
    """

    paths: Mapping[str, str]
    unreadable: Mapping[str, str]


def list_present(directories: Sequence[str]) -> Present:
    """List the published files of directories, without accounts of removed files."""
    paths: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for directory in directories:
        try:
            files = list_published(directory).files
        except OSError as exc:
            unreadable[directory] = exc.strerror or str(exc)
            continue
        for name, published in files.items():
            paths.setdefault(published, os.path.join(directory, name))
    return Present({name: path for name, path in paths.items() if _is_shippable(name)}, unreadable)


def _is_shippable(published: str) -> bool:
    name = file_names.parse(published)
    # They describe this directory, and each replaces the one before.
    return name is not None and not is_removals(name)


def pending(present: Present, known: Callable[[Collection[str]], set[str]]) -> list[PendingFile]:
    """Return files that are not `known` yet, at most the first 20,000 of them, unordered."""
    done = known(present.paths.keys())
    names = sorted(name for name in present.paths if name not in done)[:_MAX_FILES]
    found = []
    for name in names:
        path, parsed = present.paths[name], file_names.parse(name)
        try:
            size = syscalls.look_at(path).st_size
        except OSError:  # it has just been removed; the next listing shows it
            continue
        if parsed is not None:
            found.append(PendingFile(parsed, name, path, size))
    return found


def plans(files: Iterable[PendingFile], max_files: int, max_bytes: int) -> Iterator[Plan]:
    """Yield shipments of files: durations before runtime series, accounts last.

    The files of a writer are in the order of its segments. Those of several writers are merged
    by time, so that a writer with much to ship does not hold up the others.
    """
    by_prefix: dict[str, list[PendingFile]] = {}
    for file in files:
        by_prefix.setdefault(file.name.prefix, []).append(file)
    for prefix in sorted(by_prefix, key=lambda prefix: (prefix == ACCOUNT, prefix)):
        chosen: list[PlannedFile] = []
        size = 0
        for file in _merged(by_prefix[prefix]):
            chosen.append(PlannedFile(file.published, file.size_bytes))
            size += file.size_bytes
            if len(chosen) >= max_files or size >= max_bytes:
                yield _plan(prefix, chosen)
                chosen, size = [], 0
        if chosen:
            yield _plan(prefix, chosen)


def _plan(prefix: str, files: Sequence[PlannedFile]) -> Plan:
    text = "\n".join(file.name for file in files)
    return Plan(hashlib.blake2s(text.encode(), digest_size=16).hexdigest(), prefix, files)


def _merged(files: Iterable[PendingFile]) -> Iterator[PendingFile]:
    """Yield files by time, but those of a writer in the order of its segments."""
    writers: dict[str, deque[PendingFile]] = {}
    for file in sorted(files, key=lambda file: (file.name.first, file.name.part)):
        writers.setdefault(file.name.writer, deque()).append(file)
    heap = [(queue[0].name.from_ns, writer) for writer, queue in writers.items()]
    heapq.heapify(heap)
    while heap:
        _, writer = heapq.heappop(heap)
        queue = writers[writer]
        yield queue.popleft()
        if queue:
            heapq.heappush(heap, (queue[0].name.from_ns, writer))
