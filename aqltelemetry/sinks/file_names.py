"""Builds and parses the names of published CSV files.

`<prefix>.<from>-<to>.<pid>-<writer>.<first>-<last>-<part>.csv`, for example
`duration.20261123T201825123456-20261123T201925654321.4123-9f3ab2c47d51e0aa.000001-000012-0.csv`

`from` and `to` are UTC times in microseconds that enclose the file's timepoints.
`writer` is 64 random bits in hexadecimal, chosen by the recording process. The file contains
the writer's journal segments `first` to `last`. `part` numbers the files of a segment that is
too large for one file, from 0. So names sort by time within a prefix and are unique without
coordination. They depend on the segments alone: a process that publishes a segment again,
after a crash, uses the same name. A file that was compressed later has `.gz` or `.zst` after
its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

CSV_SUFFIX = ".csv"
TMP_SUFFIX = ".tmp"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP = "%Y%m%dT%H%M%S%f"
_NS_PER_US = 1000
COMPRESSED_SUFFIXES = (".gz", ".zst")
"""The suffixes after `.csv` of compressed files that can be read."""
_IDENTITY = re.compile(
    r"(?P<prefix>[A-Za-z0-9_-]+)"
    r"\.(?P<from>\d{8}T\d{12})-(?P<to>\d{8}T\d{12})"
    r"\.(?P<pid>\d+)-(?P<writer>[0-9a-f]{16})"
    r"\.(?P<first>\d{6,})-(?P<last>\d{6,})-(?P<part>\d+)",
    re.ASCII,
)
_SPAN = re.compile(r"\.(?P<from>\d{8}T\d{12})-(?P<to>\d{8}T\d{12})\.", re.ASCII)
_NAME = re.compile(_IDENTITY.pattern + r"\.csv(?:\.gz|\.zst)?", re.ASCII)
_PLAIN_NAMES = re.compile(
    r"(?<![^/])" + re.sub(r"\?P<\w+>", "?:", _IDENTITY.pattern) + r"\.csv(?![^/])", re.ASCII
)
_TEMPORARY = re.compile(r"[A-Za-z0-9_-]+\.[0-9a-f]{16}\.\d+\.tmp", re.ASCII)


class FileName(NamedTuple):
    """The parts of a published file's name; see the module.

    `from_ns` and `to_ns` are nanoseconds since the epoch; the file's timepoints are in
    `from_ns <= t < to_ns`.
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
    """Return whole microseconds, in ns, with `from_ns <= first_ns <= last_ns < to_ns`."""
    return (
        first_ns // _NS_PER_US * _NS_PER_US,
        (last_ns // _NS_PER_US + 1) * _NS_PER_US,
    )


def parse(name: str) -> FileName | None:
    """Parse the name of a published file, compressed or not; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        from_ns, to_ns = nanoseconds(match["from"]), nanoseconds(match["to"])
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
    """Return the `writer` in the name of a published file or of its copy; "" if there is none."""
    match = _IDENTITY.search(name)
    return match["writer"] if match else ""


def published_name(name: str) -> str | None:
    """Return the name under which a file was published that may have been renamed since.

    `duration.<...>-0 (copy).csv.gz` gives `duration.<...>-0.csv`. None if the name does
    not contain the name of a published file.
    """
    match = _IDENTITY.search(name)
    return None if match is None else match[0] + CSV_SUFFIX


def is_published(name: str) -> bool:
    """Return whether this is the name of a published file, compressed or not."""
    return _NAME.fullmatch(name) is not None


def plain_names(names: Iterable[str]) -> list[str]:
    """Return the names of uncompressed published files among the names in a directory."""
    # One search is several times faster than one per name. No name contains a slash.
    return _PLAIN_NAMES.findall("/".join(names))


def uncompressed(name: str) -> str:
    """Return a file's name without its compression suffix."""
    for suffix in COMPRESSED_SUFFIXES:
        if name.endswith(CSV_SUFFIX + suffix):
            return name.removesuffix(suffix)
    return name


def forms(name: str) -> list[str]:
    """Return the other names of a file: uncompressed, and with each compression suffix."""
    plain = uncompressed(name)
    every = [plain, *(plain + suffix for suffix in COMPRESSED_SUFFIXES)]
    return [each for each in every if each != name]


def may_overlap(name: str, since_stamp: str, until_stamp: str) -> bool:
    """Return whether a file may contain timepoints between two results of `stamp`.

    True for a file whose name contains no times.
    """
    match = _SPAN.search(name)
    # Stamps sort like their times; parsing them would take ten times as long.
    return match is None or (match["from"] < until_stamp and match["to"] > since_stamp)


def stamp(epoch_ns: int) -> str:
    """Return a time as in file names: UTC, rounded down to a microsecond."""
    return (_EPOCH + timedelta(microseconds=epoch_ns // _NS_PER_US)).strftime(_STAMP)


def nanoseconds(stamp: str) -> int:
    """Return the time of a `stamp`; raises ValueError."""
    # strptime takes ten times as long, which matters for 20,000 files.
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
    """Return the name of a file that is being written; `publisher` is 16 hexadecimal digits."""
    return f"{prefix}.{publisher}.{number}{TMP_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Return whether a name is a result of `temporary`."""
    return _TEMPORARY.fullmatch(name) is not None
