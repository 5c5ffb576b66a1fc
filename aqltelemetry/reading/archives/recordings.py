"""What is known of recordings from the names of their files in archives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from aqltelemetry.observation import SegmentId
from aqltelemetry.reading.journals import UnpublishedSegment
from aqltelemetry.sinks import archives
from aqltelemetry.sinks.archives import members_of
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system.clock import NS_PER_S

# The times in the journal and in a file's name may differ, if a clock was set in between.
_TOLERANCE_NS = 3600 * NS_PER_S


def writers_in(path: str) -> Iterator[tuple[str, FileName]]:
    """Yield path and name of the files of each writer in an archive, as if they were one.

    The path is one that `read_published` reads. Nothing is yielded for an archive that can't be
    read.
    """
    with suppress(OSError):
        for name in archives.read_writers(path):
            yield os.path.join(path, name.writer), name


def files_in(path: str) -> list[FileName]:
    """Return the names of the files in an archive; none if it can't be read."""
    with suppress(OSError):
        return [member.name for member in members_of(path)]
    return []


def recent_members(
    paths: Iterable[str], segments: Mapping[SegmentId, UnpublishedSegment]
) -> Iterator[FileName]:
    """Yield the files in archives that may contain segments which are in a journal too.

    That is so for a short time if a killed process's segments are recovered long after.
    """
    spans = [content.span_ns for content in segments.values() if content.span_ns is not None]
    if not spans:
        return
    from_ns = min(span[0] for span in spans) - _TOLERANCE_NS
    to_ns = max(span[1] for span in spans) + _TOLERANCE_NS
    writers = {segment.writer for segment in segments}
    for path in paths:
        archive = archives.parse(os.path.basename(path))
        if archive is None or archive.to_ns < from_ns or archive.from_ns > to_ns:
            continue
        with suppress(OSError):
            for member in members_of(path):
                if member.name.writer in writers:
                    yield member.name
