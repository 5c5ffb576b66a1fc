"""Counts the files that were removed before a scrape could read them.

Retention, and a shipper with `--delete-after`, publish an account of what they remove. Which of
these files were never listed follows from it. Files that something else removes unseen are not
noticed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.archives.recordings import files_in
from aqltelemetry.reading.sources import Sources, Spans
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.archives import is_archive
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import Removed, is_removals, load, merged, read_removals

_Key = tuple[str, str]
"""A writer and a prefix."""


class MissedFiles:
    """Counts the files of recordings that were removed unseen.

    Args:
        sources: What there is to read.

    Attributes:
        files: How many files were removed unseen since the first call of `look`.
    """

    def __init__(self, sources: Sources) -> None:
        self.files = 0
        self._sources = sources
        self._present: dict[str, FileName | None] = {}
        self._known = Spans()
        self._seen_and_gone: Counter[_Key] = Counter()
        self._missed: Counter[_Key] = Counter()
        self._has_looked = False

    def look(self) -> None:
        """Compare what was removed with what was listed, after the sources were refreshed."""
        removed: dict[_Key, Sequence[Removed]] = {}
        for path, name in self._new_files():
            if not is_removals(name):
                self._known.add(name)
                continue
            for key, found in read_removals(load(path)).items():
                removed[key] = merged([*removed.get(key, ()), *found])
        for (writer, number), content in self._sources.segments.items():
            if content.is_final:  # its rows were read from the journal
                for prefix in content.rows:
                    self._known.add_segments(writer, prefix, number, number)
        for key, runs in removed.items():
            if key[1] != ACCOUNT:
                self._count(key, runs)
        self._has_looked = True

    def _count(self, key: _Key, removed: Sequence[Removed]) -> None:
        """Count the files of a writer and prefix that were removed, but those that were listed."""
        gaps = sum(self._known.missing(*key, run.first, run.last) for run in removed)
        # Those that are about to be removed may be there still.
        present = sum(
            any(run.first <= name.first and name.last <= run.last for run in removed)
            for name in self._present.values()
            if name is not None and (name.writer, name.prefix) == key
        )
        files = sum(run.amount for run in removed) - present - self._seen_and_gone[key]
        unseen = min(files, gaps)
        if unseen > self._missed[key]:
            # What was removed before the first look does not count.
            self.files += unseen - self._missed[key] if self._has_looked else 0
            self._missed[key] = unseen

    def _new_files(self) -> Iterator[tuple[str, FileName]]:
        """Yield the path and the name of each new file; of an archive, those of its files."""
        before, self._present = self._present, {}
        for directory, files in self._sources.files.items():
            for present, published in files.items():
                path = os.path.join(directory, published)
                if path in before:
                    self._present[path] = before.pop(path)
                elif is_archive(present):
                    self._present[path] = None
                    yield from self._new_in_archive(os.path.join(directory, present))
                else:
                    name = self._present[path] = file_names.parse(published)
                    if name is not None:
                        yield os.path.join(directory, present), name
        for name in before.values():
            if name is not None:
                self._seen_and_gone[name.writer, name.prefix] += 1

    def _new_in_archive(self, path: str) -> Iterator[tuple[str, FileName]]:
        """Yield the files of an archive that were not listed by themselves before."""
        for name in files_in(path):
            if self._known.missing(name.writer, name.prefix, name.first, name.last):
                self._seen_and_gone[name.writer, name.prefix] += 1
                yield path, name
