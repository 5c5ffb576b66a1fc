"""Roll-up files: `rollup.` and the name of an archive, whose rows they add up.

The metadata are those of the archive of the same CSV files, and the length of an interval.
docs/reference/formats.md describes the columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import ArchiveError
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.csv_frames import EVERYTHING, Wanted
from aqltelemetry.sinks import archives
from aqltelemetry.sinks.archives import ArchiveName, Member
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

PREFIX = "rollup."
INTERVAL_KEY = "aqltelemetry.interval_ns"
MAX_INTERVAL_NS = 86_400 * NS_PER_S
"""The longest interval: a day."""
BEGIN, INTERVAL, LABEL = "begin_ns", "interval_ns", "label"
COUNT, SUM, MIN, MAX, NOT_POSITIVE = "count", "sum", "min", "max", "not_positive"
BUCKETS, COUNTS = "buckets", "counts"
"""The columns."""
_NUMBERS = (BEGIN, INTERVAL, COUNT, SUM, MIN, MAX, NOT_POSITIVE)


class RollUp(NamedTuple):
    """Rows of a roll-up: one for each interval and label.

    Attributes:
        begins_ns: When the intervals begin, in nanoseconds since the epoch.
        interval_ns: How long they are, in nanoseconds.
        label_codes: The label of each row, as an index into `labels`.
        labels: The labels.
        counts: How many observations there were.
        sums: Their sum; that and the next two without those that are NaN, NaN if all are.
        mins: The smallest one.
        maxs: The largest one.
        not_positive: How many were 0 or less.
        lengths: How many items each row has in the next two.
        buckets: The numbers of the buckets that are not empty, in ascending order; see `buckets`.
        bucket_counts: How many observations are in them.
    """

    begins_ns: npt.NDArray[np.int64]
    interval_ns: npt.NDArray[np.int64]
    label_codes: npt.NDArray[np.int64]
    labels: Sequence[str]
    counts: npt.NDArray[np.int64]
    sums: npt.NDArray[np.float64]
    mins: npt.NDArray[np.float64]
    maxs: npt.NDArray[np.float64]
    not_positive: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    buckets: npt.NDArray[np.int64]
    bucket_counts: npt.NDArray[np.int64]


def name_of(archive: ArchiveName) -> str:
    """Return the name of the roll-up of an archive."""
    return f"{PREFIX}{archive}"


def parse(name: str) -> ArchiveName | None:
    """Return the name of the archive that a roll-up is of; None for any other file."""
    return archives.parse(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None


def is_temporary(name: str) -> bool:
    """Return whether this is the name of a roll-up that is being written."""
    return name.startswith(PREFIX) and archives.is_temporary(name.removeprefix(PREFIX))


def find(directories: Sequence[str], prefix: str | None = None) -> Mapping[str, str]:
    """Map the names of roll-ups, of a prefix or all, to their paths; raises OSError.

    Of several with one name, one that can be read is taken.
    """
    found: dict[str, str] = {}
    for directory in directories:
        for name in syscalls.list_directory(directory):
            archive = parse(name)
            if archive is not None and prefix in (None, archive.prefix):
                path = os.path.join(directory, name)
                if name not in found or archives.why_unreadable(found[name]):
                    found[name] = path
    return found


def prefixes(directories: Sequence[str]) -> list[str]:
    """Return the prefixes that there are roll-ups of, in alphabetical order; raises OSError."""
    names = map(parse, find(directories))
    return sorted({name.prefix for name in names if name is not None})


def read_members(path: str) -> Sequence[Member]:
    """Return the CSV files whose rows a roll-up adds up; raises as `archives.read_members`."""
    return archives.members_of(path)


def read(path: str, wanted: Wanted = EVERYTHING) -> RollUp:
    """Return the rows of a roll-up whose intervals begin in the wanted time.

    Raises:
        FileNotFoundError: It was removed.
        ArchiveError: It is damaged; an OSError too.
        MissingExtraError: pyarrow is not installed.
    """
    pa = encoding.pyarrow()
    try:
        with pa.parquet.ParquetFile(path, read_dictionary=[LABEL]) as file:
            found = file.read()
        return _rows(_among(pa, found, wanted))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as exc:
        raise ArchiveError(path, f"it is damaged: {exc}") from exc


def read_all(directories: Sequence[str], prefix: str, wanted: Wanted) -> Iterator[RollUp]:
    """Yield the rows of the roll-ups of a prefix in the wanted time; raises as `read`."""
    for path in find(directories, prefix).values():
        archive = parse(os.path.basename(path))
        if archive is not None and _overlaps(archive, wanted):
            yield read(path, wanted)


def check(path: str) -> RollUp:
    """Return the rows of a roll-up, after their counts were compared with the files it covers.

    Raises:
        FileNotFoundError: It was removed.
        OSError: It can't be read.
        ArchiveError: It is damaged, or does not count each row of its files once; an OSError too.
        MissingExtraError: pyarrow is not installed.
    """
    rows = read(path)
    if int(rows.counts.sum()) != sum(member.rows for member in read_members(path)):
        raise ArchiveError(path, "it does not count each row of its files once")
    in_buckets = np.zeros(len(rows.counts) + 1, np.int64)
    in_buckets[1:] = np.cumsum(rows.lengths)
    totals = np.concatenate([[0], np.cumsum(rows.bucket_counts)])[in_buckets]
    if (np.diff(totals) + rows.not_positive > rows.counts).any():
        raise ArchiveError(path, "a histogram in it counts more than there is")
    return rows


def table(rows: RollUp) -> Any:
    """Return rows as a `pyarrow.Table`; raises MissingExtraError."""
    pa = encoding.pyarrow()
    offsets = pa.array(np.concatenate([[0], np.cumsum(rows.lengths)]).astype(np.int32))
    return pa.table(
        {
            BEGIN: pa.array(rows.begins_ns),
            INTERVAL: pa.array(rows.interval_ns),
            LABEL: pa.DictionaryArray.from_arrays(
                pa.array(rows.label_codes.astype(np.int32)), pa.array(rows.labels, pa.string())
            ),
            COUNT: pa.array(rows.counts),
            SUM: pa.array(rows.sums),
            MIN: pa.array(rows.mins),
            MAX: pa.array(rows.maxs),
            NOT_POSITIVE: pa.array(rows.not_positive),
            BUCKETS: pa.ListArray.from_arrays(offsets, pa.array(rows.buckets.astype(np.int32))),
            COUNTS: pa.ListArray.from_arrays(offsets, pa.array(rows.bucket_counts)),
        }
    )


def _overlaps(archive: ArchiveName, wanted: Wanted) -> bool:
    since_ns, until_ns = wanted.since_ns, wanted.until_ns
    # An interval begins before the first row in it.
    return (since_ns is None or archive.to_ns > since_ns) and (
        until_ns is None or archive.from_ns < until_ns + MAX_INTERVAL_NS
    )


def _among(pa: Any, found: Any, wanted: Wanted) -> Any:
    begins_ns = found[BEGIN].to_numpy()
    mask = np.ones(len(begins_ns), bool)
    if wanted.since_ns is not None:
        mask &= begins_ns >= wanted.since_ns
    if wanted.until_ns is not None:
        mask &= begins_ns < wanted.until_ns
    if (labels := wanted.all_labels()) is not None:
        mask &= np.array([label in labels for label in found[LABEL].to_pylist()], bool)
    return found if mask.all() else found.filter(pa.array(mask))


def _rows(found: Any) -> RollUp:
    labels = found[LABEL].unify_dictionaries().combine_chunks()
    buckets, counts = found[BUCKETS].combine_chunks(), found[COUNTS].combine_chunks()
    columns = {name: found[name].to_numpy() for name in _NUMBERS}
    return RollUp(
        columns[BEGIN],
        columns[INTERVAL],
        labels.indices.to_numpy().astype(np.int64) if len(found) else np.empty(0, np.int64),
        labels.dictionary.to_pylist() if len(found) else [],
        columns[COUNT],
        columns[SUM],
        columns[MIN],
        columns[MAX],
        columns[NOT_POSITIVE],
        buckets.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64),
        buckets.flatten().to_numpy().astype(np.int64),
        counts.flatten().to_numpy(),
    )
