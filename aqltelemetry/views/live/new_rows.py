"""Reads what is new in recordings since the last call, each observation once, as columns.

`TelemetryDB` keeps all observations. This keeps those of unpublished segments only, to compare
them with what is there at the next call. What it costs depends on what is new.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from operator import is_
from zlib import crc32

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import SegmentId
from aqltelemetry.reading.archives.published import read_published
from aqltelemetry.reading.archives.recordings import files_in
from aqltelemetry.reading.journals import UnpublishedSegment
from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.sources import Sources
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.archives import is_archive
from aqltelemetry.sinks.file_names import FileName

_Key = tuple[str, str]
"""A directory, and the name under which a file in it was published."""
_Mask = npt.NDArray[np.bool_]
_Keys = npt.NDArray[np.uint64]
_MIXERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_GONE = 10_000


class NewRows:
    """Reads what is new in several directories.

    Args:
        directories: The monitoring directories; they must exist.
        prefixes: The file prefixes to read; None for all.
        since_ns: Files that are older are read by `read_older` only, in nanoseconds since the
            epoch.
        journal_dir: The option `journal_dir` of the recording, if it had one.

    Attributes:
        sources: What there is to read, at the last call of `read`.
        older: How many files are left for `read_older`.
        gone: How many files were removed after they were listed and before they were read.

    Raises:
        OptionError: `journal_dir` is not a path that a journal can have.
    """

    def __init__(
        self,
        directories: Sequence[str],
        prefixes: Collection[str] | None,
        *,
        since_ns: int | None = None,
        journal_dir: str | None = None,
    ) -> None:
        self.sources = Sources(directories, live=True, journal_dir=journal_dir)
        self.gone = 0
        self._prefixes = None if prefixes is None else frozenset(prefixes)
        self._since = "" if since_ns is None else file_names.stamp(since_ns)
        self._seen: dict[tuple[str, SegmentId], UnpublishedSegment] = {}
        self._listed = Listed()
        self._examined: Sequence[Mapping[str, str]] = ()
        self._older: list[tuple[str, str, str]] = []
        self._has_read = False

    @property
    def older(self) -> int:
        """How many files are left for `read_older`."""
        return len(self._older)

    def read(self) -> Iterator[tuple[str, Rows]]:
        """Yield the prefix and the rows of what is new; raises OSError as `Sources.refresh`."""
        self.sources.refresh()
        for prefix in self._unpublished_prefixes():
            yield from self._unpublished(prefix)
        new = self._changed_files()
        self._has_read = True
        for directory, name, published in new:
            if self._prefixes is None or published.split(".", 1)[0] in self._prefixes:
                if file_names.may_overlap(published, self._since, "~"):
                    yield from self._read_file(directory, name, published)
                else:
                    self._older.append((directory, name, published))
        there = self.sources.segments
        self._seen = {key: content for key, content in self._seen.items() if content.id in there}

    def read_older(self, files: int) -> Iterator[tuple[str, Rows]]:
        """Yield the prefix and the rows of at most so many older files, newest first."""
        for _ in range(min(files, len(self._older))):
            yield from self._read_file(*self._older.pop())

    def _unpublished_prefixes(self) -> Collection[str]:
        if self._prefixes is not None:
            return self._prefixes
        known = {prefix for prefix, _ in self._seen}
        return known.union(*(content.rows for content in self.sources.segments.values()))

    def _unpublished(self, prefix: str) -> Iterator[tuple[str, Rows]]:
        """Yield what is new of a prefix in segments that are in no file."""
        unpublished = {content.id for content in self.sources.unpublished_segments(prefix)}
        for content in self.sources.segments.values():
            if content.id in unpublished:
                yield from self._unseen(prefix, content)
            if content.id in unpublished or prefix not in content.rows:
                self._seen[prefix, content.id] = content

    def _unseen(self, prefix: str, content: UnpublishedSegment) -> Iterator[tuple[str, Rows]]:
        before = self._seen.get((prefix, content.id))
        if before is content:
            return
        rows = content.rows[prefix]
        known = None if before is None else before.rows.get(prefix)
        new = rows if known is None else rows[_is_new(rows, [known])]
        if len(new):
            yield prefix, new

    def _new_files(self) -> Iterator[tuple[str, str, str]]:
        """Yield the directory, present name and published name of each new file."""
        for directory, files in self.sources.files.items():
            for name, published in files.items():
                if self._listed.add((directory, published)):
                    if is_archive(name):
                        yield from self._new_of_archive(directory, name)
                    else:
                        yield directory, name, published

    def _changed_files(self) -> Sequence[tuple[str, str, str]]:
        """Return the new files, as `_new_files`; forget those that have long been gone."""
        files = [*self.sources.files.values()]
        if len(files) == len(self._examined) and all(map(is_, files, self._examined)):
            return ()
        new = sorted(self._new_files())
        every = self.sources.files.items()
        self._listed.keep({(place, name) for place, names in every for name in names.values()})
        self._examined = files
        return new

    def _new_of_archive(self, directory: str, name: str) -> Iterator[tuple[str, str, str]]:
        """Yield an archive; one of which a part may be known, file by file."""
        is_older = not file_names.may_overlap(name, self._since, "~")
        if is_older and not self._has_read:  # it was there before, so nothing of it is known
            yield directory, name, name
            return
        files = files_in(os.path.join(directory, name))
        listed = self._listed.names()
        new = [each for each in files if str(each) not in listed]
        if len(new) == len(files) and not any(map(self._seen_of, files)):
            yield directory, name, name
            return
        for each in map(str, new):
            self._listed.add((directory, each))
            yield directory, f"{name}/{each}", each

    def _read_file(self, directory: str, name: str, published: str) -> Iterator[tuple[str, Rows]]:
        parsed = file_names.parse(published)
        seen = [] if parsed is None else self._seen_of(parsed)
        if parsed is not None and len(seen) == parsed.last - parsed.first + 1 and _are_final(seen):
            return
        prefix = published.split(".", 1)[0]
        known = [content.rows[prefix] for content in seen if prefix in content.rows]
        rows = read_published(directory, [name], leave_out=_ignore)
        if not len(rows) and not os.path.lexists(os.path.join(directory, name.partition("/")[0])):
            self.gone += 1
        new = rows[_is_new(rows, known)] if known else rows
        if len(new):
            yield prefix, new

    def _seen_of(self, name: FileName) -> list[UnpublishedSegment]:
        """Return those segments of a file whose rows of its prefix were returned before."""
        numbers = range(name.first, name.last + 1)
        keys = ((name.prefix, SegmentId(name.writer, number)) for number in numbers)
        return [self._seen[key] for key in keys if key in self._seen]


class Listed:
    """The files that were found before.

    Those that are gone are remembered for some time: a directory that can't be read for a while, or
    a copy that is put back, must not make their rows new. At most `gone` of them are, or as many as
    were gone at once.
    """

    def __init__(self, gone: int = _GONE) -> None:
        self._most = gone
        self._here: set[_Key] = set()
        self._gone: dict[_Key, None] = {}

    def __len__(self) -> int:
        """Return how many files are remembered."""
        return len(self._here) + len(self._gone)

    def add(self, key: _Key) -> bool:
        """Remember a file; return whether it is new."""
        if key in self._here:
            return False
        is_back = key in self._gone
        self._gone.pop(key, None)
        self._here.add(key)
        return not is_back

    def names(self) -> set[str]:
        """Return the names under which the files were published."""
        return {published for keys in (self._here, self._gone) for _, published in keys}

    def keep(self, present: AbstractSet[_Key]) -> None:
        """Note which files are there; forget those that have been gone for longest."""
        gone = self._here - present
        if gone:
            self._here -= gone
            self._gone.update(dict.fromkeys(gone))
            for key in [*self._gone][: -max(self._most, len(gone))]:
                del self._gone[key]


def _are_final(contents: Sequence[UnpublishedSegment]) -> bool:
    return all(content.is_final for content in contents)


def _is_new(rows: Rows, known: Sequence[Rows]) -> _Mask:
    """Return which rows are not among those that are known.

    Rows of a label stay in their order, and new ones follow. Their times may change a little: a
    process stores a new relation of its clocks a moment after the first time that it is for. A
    record that was being stored may appear between others; then all is compared.
    """
    numbers: dict[str, int] = {}
    labels = _label_numbers(rows, numbers)
    before = np.concatenate([_label_numbers(each, numbers) for each in known])
    order = np.argsort(labels, kind="stable")
    labels = labels[order]
    seen = np.bincount(before, minlength=len(numbers))
    sizes = np.bincount(labels, minlength=len(numbers))
    place = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels]
    is_new: _Mask = np.empty(len(labels), bool)
    is_new[order] = is_later = place >= seen[labels]
    values = np.concatenate([each.measurements for each in known])
    values = values[np.argsort(before, kind="stable")]
    if np.array_equal(rows.measurements[order][~is_later], values, equal_nan=True):
        return is_new
    return ~np.isin(_keys(rows), np.concatenate([_keys(each) for each in known]))


def _label_numbers(rows: Rows, numbers: dict[str, int]) -> npt.NDArray[np.int64]:
    """Return the number of each row's label in `numbers`, to which new labels are added."""
    labels = [numbers.setdefault(label, len(numbers)) for label in rows.labels]
    return np.array(labels, np.int64)[rows.label_codes]


def _keys(rows: Rows) -> _Keys:
    """Return a number for each row that differs for other labels, times or measurements."""
    labels = np.array([crc32(label.encode(errors="replace")) for label in rows.labels], np.uint64)
    times = rows.timepoints_ns.view(np.uint64)
    values = np.ascontiguousarray(rows.measurements, np.float64).view(np.uint64)
    keys: _Keys = times * _MIXERS[0] ^ values * _MIXERS[1]
    return keys + labels[rows.label_codes] if len(labels) else keys


def _ignore(_name: str, _reason: str) -> None:
    pass
