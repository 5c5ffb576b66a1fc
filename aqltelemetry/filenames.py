"""The names of published CSV files: what they say, and nothing about their content.

`<prefix>.<from>-<to>.<pid>-<writer>.<first>-<last>-<part>.csv`, for example
`duration.20261123T201825123456-20261123T201925654321.4123-9f3ab2c47d51e0aa.000001-000012-0.csv`

`from` and `to` are the UTC microseconds that enclose the file's timepoints,
`writer` 64 random bits drawn by the recording process, `first` and `last` its
journal segments that the file holds, `part` counts the files of a segment too
large for one. So names sort by time within a prefix, are unique without any
coordination, and derive from the segments alone: whoever publishes a segment
again, after a crash, arrives at the same name.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

CSV_SUFFIX = ".csv"
TMP_SUFFIX = ".tmp"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP = "%Y%m%dT%H%M%S%f"
_NS_PER_US = 1000
_NAME = re.compile(
    r"(?P<prefix>[A-Za-z0-9_-]+)"
    r"\.(?P<from>\d{8}T\d{12})-(?P<to>\d{8}T\d{12})"
    r"\.(?P<pid>\d+)-(?P<writer>[0-9a-f]{16})"
    r"\.(?P<first>\d{6,})-(?P<last>\d{6,})-(?P<part>\d+)\.csv",
    re.ASCII,
)
_TEMPORARY = re.compile(r"[A-Za-z0-9_-]+\.[0-9a-f]{16}\.\d+\.tmp", re.ASCII)


class FileName(NamedTuple):
    """What the name of a published file says; times are nanoseconds since the epoch.

    The file's timepoints lie in `from_ns <= t < to_ns`.
    """

    prefix: str
    from_ns: int
    to_ns: int
    pid: int
    writer: str
    first: int
    last: int
    part: int

    def __str__(self) -> str:
        return (
            f"{self.prefix}.{stamp(self.from_ns)}-{stamp(self.to_ns)}"
            f".{self.pid}-{self.writer}"
            f".{self.first:06d}-{self.last:06d}-{self.part}{CSV_SUFFIX}"
        )


def enclosing(first_ns: int, last_ns: int) -> tuple[int, int]:
    """Return the whole microseconds `from_ns <= first_ns <= last_ns < to_ns`."""
    return (
        first_ns // _NS_PER_US * _NS_PER_US,
        (last_ns // _NS_PER_US + 1) * _NS_PER_US,
    )


def parse(name: str) -> FileName | None:
    """Read a published file's name; None if it is not one of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        from_ns, to_ns = _nanoseconds(match["from"]), _nanoseconds(match["to"])
    except ValueError:
        return None
    return FileName(
        match["prefix"],
        from_ns,
        to_ns,
        int(match["pid"]),
        match["writer"],
        int(match["first"]),
        int(match["last"]),
        int(match["part"]),
    )


def writer(name: str) -> str:
    """Return the `writer` in a published file's name; the empty text if it is not one of ours."""
    match = _NAME.fullmatch(name)
    return match["writer"] if match else ""


def may_overlap(name: str, since_stamp: str, until_stamp: str) -> bool:
    """Say whether a file may hold timepoints in a span, given by two of `stamp`.

    One whose name is not one of ours, and tells no times, may.
    """
    match = _NAME.fullmatch(name)
    # Stamps sort as the times do; to read them would take ten times as long.
    return match is None or (match["from"] < until_stamp and match["to"] > since_stamp)


def stamp(epoch_ns: int) -> str:
    """Return a time as it stands in file names: UTC, to the microsecond that has begun."""
    return (_EPOCH + timedelta(microseconds=epoch_ns // _NS_PER_US)).strftime(_STAMP)


def _nanoseconds(stamp: str) -> int:
    # strptime would cost ten times as much, which counts for 20,000 files.
    moment = datetime(
        int(stamp[:4]),
        int(stamp[4:6]),
        int(stamp[6:8]),
        int(stamp[9:11]),
        int(stamp[11:13]),
        int(stamp[13:15]),
        int(stamp[15:]),
        tzinfo=UTC,
    )
    return (moment - _EPOCH) // timedelta(microseconds=1) * _NS_PER_US


def temporary(prefix: str, publisher: str, number: int) -> str:
    """Name a file that is being written; `publisher` is 16 hexadecimal digits."""
    return f"{prefix}.{publisher}.{number}{TMP_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Say whether a name is one that `temporary` makes."""
    return _TEMPORARY.fullmatch(name) is not None
