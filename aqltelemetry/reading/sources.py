"""Finds what can be read of a recording: published files and, live, segments in journals.

Each observation is in exactly one of them, by this order of reading:

1. the journals, which show the segments that are not yet published, or not yet removed;
2. the names of the accounts. The account of segments is published after all of their files, and
   before they are removed from the journal: a segment that has an account is published;
3. the names of the files, listed after the accounts were there, so that no file is missing.

A segment without an account is read from the journal. If a file of several segments has appeared,
it is complete, even if its process died before it published the next one: it is read, and its
prefix is left out of these segments. A file of one segment may be one of several parts: it waits
while the segment is in the journal and has no account.

What was read from a file is never read from the journal again, even if retention has removed the
file since.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy

from aqltelemetry.journal.in_flight import InFlight
from aqltelemetry.journal.location import all_roots
from aqltelemetry.observation import ACCOUNT, SegmentId
from aqltelemetry.reading.archives.contained import archived_elsewhere, moved
from aqltelemetry.reading.archives.recordings import recent_members, writers_in
from aqltelemetry.reading.journals import Journals, Place, UnpublishedSegment
from aqltelemetry.reading.listing import Listing, NotRead, list_published
from aqltelemetry.reading.rows import Rows
from aqltelemetry.settings import settings
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.archives import is_archive
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import is_removals
from aqltelemetry.system import syscalls

_LISTINGS = 10
_INFINITE = float("inf")


class Sources:
    """What can be read of the recordings in several directories; `refresh` updates it.

    Attributes:
        files: By directory: the present name of each file to read, and the name under which it
            was published. Its content never changes.
        not_read: The files and journals that are not read.
        segments: The segments in the journals that are not published.
        running: The writers whose processes live; known only if `live`.
    """

    def __init__(
        self, directories: Sequence[str], *, live: bool = False, journal_dir: str | None = None
    ) -> None:
        self.files: dict[str, dict[str, str]] = {path: {} for path in directories}
        self.not_read: Sequence[NotRead] = ()
        self.segments: Mapping[SegmentId, UnpublishedSegment] = {}
        self.running: set[str] = set()
        self._directories = [_Directory(path) for path in self.files]
        self._is_live = live
        self._journals = Journals(_places(self.files, journal_dir) if live else ())
        self._accounts = Spans()
        self._published = Spans()
        self._has_waiting = False
        self._left_out: Sequence[NotRead] = ()

    def refresh(self) -> None:
        """Read the journals, then list the directories; raises OSError if one can't be listed."""
        found = self._journals.read() if self._is_live else {}
        self.running = self._journals.running
        for directory in self._directories:
            for name in directory.list():
                self._accounts.add(name)
        # The same holds for archives, of which few are as old as what is in a journal.
        for name in recent_members(self._archives(), found):
            self._published.add(name)
            if name.prefix == ACCOUNT:
                self._accounts.add(name)
        self.segments = {
            segment: content
            for segment, content in found.items()
            if not self._accounts.contain(ACCOUNT, segment)
        }
        if self._has_waiting or any(directory.has_changed for directory in self._directories):
            self._choose_files()
        problems, hidden = self._journals.problems, self._journals.hidden
        self.not_read = [
            *(NotRead(path, problems[path], path not in hidden) for path in problems),
            *self._left_out,
        ]

    def requests(self) -> Mapping[str, InFlight]:
        """Return what running writers handle now, by their names; nothing if not `live`."""
        return self._journals.requests()

    def detach(self) -> None:
        """Share nothing that changes with the sources that these are a copy of."""
        self.files = {path: {**files} for path, files in self.files.items()}
        self._directories = [copy(directory) for directory in self._directories]
        self._published = copy(self._published)
        self._published.detach()

    def unpublished(self, prefix: str) -> list[Rows]:
        """Return the rows of a prefix that are in no file to read, an item for each segment.

        The rows of a segment that has not changed are the same object as before.
        """
        return [content.rows[prefix] for content in self.unpublished_segments(prefix)]

    def unpublished_segments(self, prefix: str) -> Iterable[UnpublishedSegment]:
        """Yield the segments that have rows of a prefix that are in no file to read."""
        for segment, content in self.segments.items():
            if prefix in content.rows and not self._published.contain(prefix, segment):
                yield content

    def prefixes(self) -> set[str]:
        """Return the prefixes of all files and of all unpublished rows."""
        found = {published for files in self.files.values() for published in files.values()}
        prefixes = {published.split(".", 1)[0] for published in found}
        return prefixes.union(*(content.rows for content in self.segments.values()))

    def published(self) -> Iterator[tuple[str, FileName]]:
        """Yield the path and the parsed name of each file that contains segments of a writer."""
        for directory in self._directories:
            for name, parsed in directory.names.items():
                if parsed is not None and not is_removals(parsed):
                    yield os.path.join(directory.path, name), parsed
        for archive in self._archives():
            yield from writers_in(archive)

    def _archives(self) -> Iterator[str]:
        """Yield the paths of the archives."""
        for directory in self._directories:
            for name in filter(is_archive, directory.listing.files):
                yield os.path.join(directory.path, name)

    def _choose_files(self) -> None:
        """Set `files` to those that are complete, each once."""
        numbers = defaultdict(set)
        for writer, number in self.segments:
            numbers[writer].add(number)
        self._has_waiting = False
        first_places: dict[str, str] = {}
        left_out: list[NotRead] = []
        every = {each.path: each.listing.files for each in self._directories}
        elsewhere, away = archived_elsewhere(every), moved(every)
        for directory in self._directories:
            before, files = self.files[directory.path], {}
            left_out += directory.not_read(is_only=len(self._directories) == 1)
            for name, published in directory.listing.files.items():
                if (directory.path, name) in away:
                    continue
                parsed = directory.names[name]
                is_known = parsed is not None or is_archive(name)
                first = first_places.setdefault(published, directory.path) if is_known else None
                if published in elsewhere:
                    left_out.append(directory.copy(name, elsewhere[published]))
                elif first not in (None, directory.path):
                    left_out.append(directory.copy(name, os.path.join(str(first), published)))
                elif parsed and name not in before and self._waits(parsed, numbers[parsed.writer]):
                    self._has_waiting = True
                else:
                    files[name] = published
                    if parsed and name not in before:
                        self._published.add(parsed)
            self.files[directory.path] = files
        self._left_out = left_out

    def _waits(self, name: FileName, numbers: Iterable[int]) -> bool:
        """Return whether a file may belong to others that are not published yet.

        `numbers` are those of the writer's segments that are in the journal.
        """
        if name.prefix == ACCOUNT:
            return any(name.first <= number <= name.last for number in numbers)
        if name.first < name.last:
            return False
        segment = SegmentId(name.writer, name.first)
        if self._accounts.contain(ACCOUNT, segment):
            return False
        # It may have been made after the journal was read.
        return name.first in numbers or self._journals.has(segment)


class _Directory:
    """The published files of one directory.

    `names` are the parsed names of the files in `listing`, by their present names;
    `has_changed` says whether the last call of `list` found other files than the one before.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.listing = Listing({}, ())
        self.names: dict[str, FileName | None] = {}
        self.has_changed = False
        self._entries: Sequence[str] = ()
        self._late_accounts: set[str] = set()

    def list(self) -> Sequence[FileName]:
        """List the directory; return new accounts that were there before it was listed.

        A listing takes time, and may contain a file that appears meanwhile without one that
        appeared before that. So the directory is listed until it stays the same.
        """
        entries = self._entries
        for _ in range(_LISTINGS):
            before, entries = entries, syscalls.list_unsorted(self.path)
            if before == entries:
                break
        self.has_changed = entries != self._entries
        if self.has_changed:
            self._entries = entries
            self._parse(entries)
        new = self._late_accounts.intersection(before)
        self._late_accounts -= new
        return [parsed for name in new if (parsed := self.names.get(name))]

    def _parse(self, entries: Iterable[str]) -> None:
        names = sorted(name for name in entries if not name.endswith(file_names.TMP_SUFFIX))
        self.listing = list_published(self.path, names)
        known, self.names = self.names, {}
        for name, published in self.listing.files.items():
            if name in known:
                self.names[name] = known[name]
                continue
            parsed = self.names[name] = file_names.parse(published)
            if parsed and parsed.prefix == ACCOUNT:
                self._late_accounts.add(name)

    def copy(self, name: str, original: str) -> NotRead:
        """Return why a file is not read that is a copy of one in another directory."""
        return NotRead(os.path.join(self.path, name), f"it is a copy of {original}", is_lost=False)

    def not_read(self, *, is_only: bool) -> Iterable[NotRead]:
        """Return the files that are not read, with the directory unless it is the only one."""
        if is_only:
            return self.listing.not_read
        join = os.path.join
        return [each._replace(name=join(self.path, each.name)) for each in self.listing.not_read]


class Spans:
    """Sets of segments by writer and prefix, as spans of numbers."""

    def __init__(self) -> None:
        self._spans: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)

    def add(self, name: FileName) -> None:
        """Add the segments in the name of a file."""
        self.add_segments(name.writer, name.prefix, name.first, name.last)

    def add_segments(self, writer: str, prefix: str, first: int, last: int) -> None:
        """Add the segments from `first` to `last`."""
        spans = self._spans[writer, prefix]
        at = bisect_left(spans, (first,))
        if at and spans[at - 1][1] >= first - 1:
            at -= 1
        while at < len(spans) and spans[at][0] <= last + 1:
            first, last = min(first, spans[at][0]), max(last, spans[at][1])
            del spans[at]
        spans.insert(at, (first, last))

    def detach(self) -> None:
        """Share nothing that changes with the spans that these are a copy of."""
        self._spans = defaultdict(list, {key: [*spans] for key, spans in self._spans.items()})

    def missing(self, writer: str, prefix: str, first: int, last: int) -> int:
        """Return how many of the segments from `first` to `last` were not added."""
        spans = self._spans.get((writer, prefix), ())
        shared = (min(last, end) - max(first, begin) + 1 for begin, end in spans)
        return last - first + 1 - sum(max(each, 0) for each in shared)

    def contain(self, prefix: str, segment: SegmentId) -> bool:
        """Return whether a segment was added for a prefix."""
        spans = self._spans.get((segment.writer, prefix), ())
        at = bisect_right(spans, (segment.sequence, _INFINITE))
        return at > 0 and spans[at - 1][1] >= segment.sequence


def _places(directories: Iterable[str], journal_dir: str | None) -> Sequence[Place]:
    """Return where the journals of directories may be; raises OptionError for `journal_dir`."""
    places: dict[str, set[int]] = defaultdict(set)
    for directory in directories:
        chosen = settings(directory, {} if journal_dir is None else {"journal_dir": journal_dir})
        # A directory may belong to another user than the one who records, or who reads.
        for uid in {os.geteuid(), os.stat(directory).st_uid}:
            for root in all_roots(chosen.directory, chosen.journal_dir, uid=uid):
                places[os.fspath(root)].add(uid)
    return [Place(root, frozenset(uids)) for root, uids in places.items()]
