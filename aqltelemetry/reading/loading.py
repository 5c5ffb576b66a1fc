"""Loads observations by prefix, and keeps them in memory; each file is read once.

What there is to read, in files and in journals, each observation once, is decided by
`sources.Sources`: `files` are to be read once, `unpublished(prefix)` replaces what it returned
before the last refresh.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial

from aqltelemetry.errors import SeriesError
from aqltelemetry.reading.archives.published import Places, read_published
from aqltelemetry.reading.arguments import no_directory
from aqltelemetry.reading.compression import is_compressed
from aqltelemetry.reading.csv_frames import Wanted, warn
from aqltelemetry.reading.listing import NotRead, summary
from aqltelemetry.reading.rows import Rows, join
from aqltelemetry.reading.sources import Sources
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.archives import is_archive
from aqltelemetry.system.logs import log


class Loader:
    """Loads what is wanted of the prefixes that are asked for.

    If `is_live`, all prefixes are of the same moment: of the first call, or of `refresh`.
    `progress` is called with the number of files of a prefix that were read, and that will be.
    """

    def __init__(
        self,
        sources: Sources,
        wanted: Wanted,
        *,
        is_live: bool,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.wanted = wanted
        self._progress = progress
        self._sources = sources
        self.is_live = is_live
        self._is_listed = False
        self._published: dict[str, list[Rows]] = {}
        self._unpublished: dict[str, list[Rows]] = {}
        self._joined: dict[str, Rows] = {}
        self._read: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._logged: set[NotRead] = set()
        self._left_out: dict[str, NotRead] = {}

    @property
    def not_read(self) -> list[NotRead]:
        """The files and journals that were not read, by name."""
        return sorted({*self._sources.not_read, *self._left_out.values()})

    def has(self, prefix: str) -> bool:
        """Return whether a prefix was loaded."""
        return prefix in self._unpublished

    def rows(self, prefix: str) -> Rows:
        """Return the rows of a prefix, loaded if need be, as one."""
        parts = self.parts(prefix)
        if prefix not in self._joined:
            rows = self._joined[prefix] = _as_one(parts)
            if not self._unpublished[prefix]:
                self._published[prefix] = [rows]  # so that they are in memory once
        return self._joined[prefix]

    def parts(self, prefix: str) -> list[Rows]:
        """Return the rows of a prefix, loaded if need be, in parts.

        What is loaded later adds parts; most of those that were there stay the same objects.
        """
        if not self.has(prefix):
            self.sources()
            self._load(prefix)
        return [*self._published[prefix], *self._unpublished[prefix]]

    def sources(self) -> Sources:
        """Return what there is to read: now, or, if live, at the first call or `refresh`.

        Raises MonitoringDirectoryError if a directory was removed.
        """
        if self.is_live and self._is_listed:
            return self._sources
        try:
            self._sources.refresh()
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise no_directory(str(exc.filename)) from None
        self._is_listed = True
        new = set(self._sources.not_read) - self._logged
        if new:
            self._logged |= new
            log.warning("%s: %s", ", ".join(self._sources.files), summary(sorted(new)))
        return self._sources

    def refresh(self) -> None:
        """Load what is new of the prefixes that were loaded; raises as `sources`."""
        self._is_listed = False
        self.sources()
        for prefix in self._unpublished:
            self._load(prefix)

    def detach(self) -> None:
        """Share nothing that changes with the loader that this is a copy of."""
        self._sources = copy(self._sources)
        self._sources.detach()
        self._is_live = True  # the sources stay as they are
        self._published = {prefix: [*parts] for prefix, parts in self._published.items()}
        self._unpublished, self._joined = {**self._unpublished}, {**self._joined}
        self._read = defaultdict(set, {prefix: {*read} for prefix, read in self._read.items()})
        self._logged, self._left_out = {*self._logged}, {**self._left_out}

    def known_labels(self, prefix: str, label: str) -> Iterable[str]:
        """Return the labels of a loaded prefix, including those that are not wanted.

        Raises SeriesError if `label` is not wanted.
        """
        labels = self.wanted.labels
        if labels is None:
            return self.rows(prefix).labels
        if label not in labels:
            raise SeriesError("only other labels are loaded:", label, tuple(sorted(labels)))
        everything = replace(self.wanted, labels=None)
        parts = self._read_journals(prefix, everything)
        for directory, files in self.sources().files.items():
            names = (name for name, of in files.items() if of.startswith(prefix + "."))
            parts.append(read_published(directory, everything.files(names), everything, _ignore))
        return join(parts).labels

    def _load(self, prefix: str) -> None:
        """Load what is new of a prefix; it costs what is new, and not what was loaded before."""
        published = self._published.setdefault(prefix, [])
        unpublished = self._unpublished.get(prefix)
        wanted, has_new = self.wanted.of(prefix), unpublished is None
        for directory, files in self._sources.files.items():
            new = self._new_files(prefix, directory, files)
            names = wanted.files(sorted(new))
            if names:
                places = Places(
                    frozenset(each for _, each in self._read[prefix])
                    if any(map(is_archive, names))
                    else frozenset(),
                    tuple(self._sources.files),
                )
                self._read[prefix].update((directory, new[name]) for name in names)
                leave_out = partial(self._leave_out, prefix, directory, new)
                rows = read_published(directory, names, wanted, leave_out, self._progress, places)
                _append(published, rows)
                has_new = True
        found = self._unpublished[prefix] = self._read_journals(prefix, wanted)
        if has_new or list(map(id, found)) != list(map(id, unpublished or ())):
            self._joined.pop(prefix, None)

    def _new_files(
        self, prefix: str, directory: str, files: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Return the files of a prefix that were not read before."""
        read = self._read[prefix]
        return {
            name: published
            for name, published in files.items()
            if (directory, published) not in read and published.startswith(prefix + ".")
        }

    def _read_journals(self, prefix: str, wanted: Wanted) -> list[Rows]:
        return [wanted.among(rows) for rows in self._sources.unpublished(prefix)]

    def _leave_out(
        self, prefix: str, directory: str, new: Mapping[str, str], name: str, reason: str
    ) -> None:
        if is_compressed(name):  # it may be complete later
            published = new.get(name, file_names.uncompressed(name))
            self._read[prefix].discard((directory, published))
        path = os.path.join(directory, name)
        shown = name if len(self._sources.files) == 1 else path
        if shown not in self._left_out:
            self._left_out[shown] = NotRead(shown, reason)
            warn(path, reason)


def _as_one(parts: Sequence[Rows]) -> Rows:
    return parts[0] if len(parts) == 1 and parts[0].is_joined else join(parts)


def _append(parts: list[Rows], rows: Rows) -> None:
    """Append rows; parts that have become short are joined, so that there are few.

    Each is at least twice as long as the next one, so that a row is copied a few times only.
    """
    parts.append(rows)
    while len(parts) > 1 and len(parts[-2]) < 2 * len(parts[-1]):
        parts[-2:] = [join(parts[-2:])]


def _ignore(_name: str, _reason: str) -> None:
    pass
