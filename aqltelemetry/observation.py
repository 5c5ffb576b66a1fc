"""Observations: their columns, units, rules for labels and prefixes, and the batches of sinks.

A sampler returns `Measurement`s; a sink receives a `Batch`. The writer and the reader of the
CSV files both use the constants of this module.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from aqltelemetry.errors import PrefixError

TIMEPOINT = "Timepoint"
"""CSV column: when the measurement was taken, in integer nanoseconds since the epoch."""
MEASUREMENT = "Measurement"
"""CSV column: the measured value; durations are in seconds, exact to the nanosecond."""
LABEL = "Label"
"""CSV column: the name of the time series."""
PID = "PID"
"""CSV column: the process that took the measurement."""
COLUMNS = (TIMEPOINT, MEASUREMENT, LABEL, PID)
"""The columns of a CSV file, in order."""
CSV_HEADER = ",".join(COLUMNS).encode() + b"\n"
"""The first line of a CSV file."""

DURATION = "duration"
"""File prefix of durations."""
RUNTIME = "runtime"
"""File prefix of the built-in samplers."""
CUSTOM = "custom"
"""File prefix of values recorded by `record`, unless it is given another one."""
ACCOUNT = "account"
"""File prefix of accounts, which count the observations in the other files."""
STALL = "stall"
"""File prefix of the stalls of event loops: the length of each in seconds, under its cause."""
CPU_TIME = "cpu_time"
"""File prefix of CPU times: how long a block, function or request ran on a processor."""
STALL_DETAILS = "stall-details"
"""File prefix of the details of stalls, which are not CSV files."""
PROFILER = "profiler"
"""File prefix of profiles, which are not CSV files."""
RESERVED = (DURATION, RUNTIME, ACCOUNT, PROFILER, CPU_TIME, STALL, STALL_DETAILS, "removed")
"""File prefixes that `record` rejects.

An account that says how many files of `removed` it counts would say how many were removed.
"""
BUILT_IN = frozenset({RUNTIME, STALL, CPU_TIME})
"""File prefixes of series that only aqltelemetry itself records, apart from durations."""

FIRST_BYTE = "ttfb"
"""Follows a request's label, after a space: the time to the first byte of its response."""
REQUEST_OUTCOMES = ("4xx", "5xx", "disconnect")
"""Follow a request's label, after a space: one more observation of a request that failed."""
UNMATCHED = "unmatched"
"""The label of requests without a route."""
FAILED = "failed"
"""Follows a label, after a space: one more observation of a block or function that raised."""

MAX_LABEL_BYTES = 200
"""Size of a label in UTF-8 above which it is shortened."""
MAX_PREFIX_BYTES = 40
"""Length of the longest file prefix."""
_HASH_CHARS = 8
_PREFIX = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_PREFIX_BYTES - 1}}}")
# Characters that some reader takes for a line end or does not show: the C0 and C1 controls,
# with NEL, and the two Unicode line separators; lone surrogates can't be encoded.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Some readers, ClickHouse for one, leave out spaces at the ends of a field without quotes.
_NEEDS_QUOTES = re.compile('[,"]|^ | $')


class Measurement(NamedTuple):
    """A labelled value, as a sampler returns it; the recording adds the time and the process.

    Attributes:
        label: The name of the time series, such as `queue length`; see `clean_label`.
        value: The measured value. Use seconds and bytes, or state the unit in the label.

    Example:
        >>> Measurement("queue length", 3)
        Measurement(label='queue length', value=3)
    """

    label: str
    value: float


class Kind(IntEnum):
    """How the values of a time series are stored."""

    NANOSECONDS = 0
    """A duration, as integer nanoseconds; in seconds in CSV files."""
    FLOAT = 1
    """Any other value."""


class Series(NamedTuple):
    """Identifies a time series.

    Attributes:
        prefix: The file prefix: `duration`, `runtime`, `custom` or another one.
        label: The label of its observations.
        kind: How its values are stored.
    """

    prefix: str
    label: str
    kind: Kind


class Column(NamedTuple):
    """The observations of one time series in a batch.

    Attributes:
        series: The time series.
        timepoints_ns: When each value was measured, in nanoseconds since the epoch; n integers.
        values: The measured values, in the same order: n integers, nanoseconds, if
            `series.kind` is `Kind.NANOSECONDS`, else n floats, which may be nan, inf or -inf.
    """

    series: Series
    timepoints_ns: Sequence[int]
    values: Sequence[float]


class SegmentId(NamedTuple):
    """Identifies a journal segment.

    Attributes:
        writer: The recording that wrote it, as 16 hexadecimal digits.
        sequence: Its number, from 1.
    """

    writer: str
    sequence: int


class Dropped(NamedTuple):
    """Counts the observations that a recording has dropped for one reason.

    Attributes:
        reason: Why they were dropped, such as `no segment`.
        total: How many were dropped since the start of the recording.
        last_ns: When the last one was dropped, in nanoseconds since the epoch.
    """

    reason: str
    total: int
    last_ns: int


class SegmentAccount(NamedTuple):
    """What a segment stores about its recording, in addition to the observations.

    Attributes:
        accepted: Observations that were accepted into the segment.
        before: Observations that were accepted into earlier segments of its writer; None if
            unknown.
        dropped: Running totals of drops, up to the end of the segment.
        is_last: Whether this is the last segment of its writer.
        in_order: Whether the recording was stopped, and not killed.
        child: Identifies the forked child that recorded it, where each segment has a writer of
            its own; None for any other recording.
        is_damaged: Whether it may have contained more than could be read.
        at_ns: A time in its recording, for a segment without observations.
    """

    accepted: int
    before: int | None = None
    dropped: Sequence[Dropped] = ()
    is_last: bool = False
    in_order: bool = False
    child: int | None = None
    is_damaged: bool = False
    at_ns: int = 0


class Batch(NamedTuple):
    """The observations of one journal segment, by time series, as a sink receives them.

    Attributes:
        segment: Identifies the batch. A batch that comes again, after a failure or a crash,
            has the same `segment`, so that a sink can recognize it.
        pid: The process that recorded the observations.
        max_file_bytes: The option `max_file_bytes` of the recording.
        columns: The observations, a column for each time series.
        recovered: Whether a process other than the recording one delivers the batch.
        account: What the segment stores about its recording; None if nothing was recorded.

    Example:
        >>> for column in batch.columns:
        ...     for at_ns, value in zip(column.timepoints_ns, column.values):
        ...         print(at_ns, column.series.label, value, batch.pid)
    """

    segment: SegmentId
    pid: int
    max_file_bytes: int
    columns: Sequence[Column]
    recovered: bool = False
    account: SegmentAccount | None = None

    @property
    def rows(self) -> int:
        """The number of observations."""
        return sum(len(column.timepoints_ns) for column in self.columns)


def clean_label(label: object) -> str:
    r"""Return a label as it is recorded: at most 200 bytes of UTF-8, on one line.

    An object other than a str is converted by `str`. Control characters, line separators and
    lone surrogates are replaced by backslash escapes (`\n`, `\x85`, `\ud800`). A longer text is
    cut at a character, and `~` and eight hexadecimal digits of the BLAKE2s hash of the whole
    text are appended, so that two long labels stay distinct.
    """
    text = label if isinstance(label, str) else str(label)
    return _shortened(_UNPRINTABLE.sub(_escape, text), MAX_LABEL_BYTES)


def failed_label(label: object) -> str:
    """Return the label that counts the failures of a block or function: `<label> failed`.

    It follows from the label as recorded: `failed_label(clean_label(label))` is the same. If
    `<label> failed` would exceed 200 bytes, the label in it is shortened as `clean_label` does.
    """
    suffix = f" {FAILED}"
    max_bytes = MAX_LABEL_BYTES - len(suffix)
    if type(label) is str and len(label) <= max_bytes and label.isascii() and label.isprintable():
        return label + suffix
    return _shortened(clean_label(label), max_bytes) + suffix


def _shortened(text: str, max_bytes: int) -> str:
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    digest = hashlib.blake2s(encoded, digest_size=_HASH_CHARS // 2).hexdigest()
    kept = encoded[: max_bytes - _HASH_CHARS - 1].decode(errors="ignore")
    return f"{kept}~{digest}"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def check_prefix(prefix: object) -> str:
    """Return a file prefix for `record` unchanged.

    It must consist of 1 to 40 ASCII letters, digits, `_` and `-`, not start with `-`, and not be
    in `RESERVED`. Raises PrefixError otherwise.
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix) or prefix in RESERVED:
        raise PrefixError(prefix)
    return prefix


def is_sampler_prefix(prefix: object) -> bool:
    """Return whether a sampler may use a prefix: `runtime`, or one that `check_prefix` accepts."""
    try:
        return prefix == RUNTIME or check_prefix(prefix) == prefix
    except PrefixError:
        return False


def quote_field(text: str) -> str:
    """Return a text as a CSV field by RFC 4180, quoted only if needed.

    The empty text is quoted, since COPY of PostgreSQL reads an unquoted one as NULL.
    """
    if text and not _NEEDS_QUOTES.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'
