"""What an observation is: its columns, units, label rules and CSV text.

The writer and the reader of the CSV files both derive from this module.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from aqltelemetry.errors import PrefixError

TIMEPOINT = "Timepoint"
"""CSV column: integer nanoseconds since the epoch, when the measurement was taken."""
MEASUREMENT = "Measurement"
"""CSV column: the measured quantity; a duration is in seconds, exact to the nanosecond."""
LABEL = "Label"
"""CSV column: the name of the time series."""
PID = "PID"
"""CSV column: the process that took the measurement."""
COLUMNS = (TIMEPOINT, MEASUREMENT, LABEL, PID)
CSV_HEADER = ",".join(COLUMNS).encode() + b"\n"

DURATION = "duration"
"""File prefix of durations."""
RUNTIME = "runtime"
"""File prefix of what samplers observe."""
CUSTOM = "custom"
"""File prefix of values recorded by `record`, unless another one is given."""
ACCOUNT = "account"
"""File prefix of the account of what the other files hold; it holds no observations."""
PROFILER = "profiler"
"""File prefix of profiles, which are no CSV files."""
RESERVED = frozenset({DURATION, RUNTIME, ACCOUNT, PROFILER})
"""File prefixes that `record` refuses."""

MAX_LABEL_BYTES = 200
MAX_PREFIX_BYTES = 40
_HASH_CHARS = 8
_PREFIX = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_PREFIX_BYTES - 1}}}")
# What would end or hide a line for some reader: the C0 and C1 controls (so also
# NEL) and the two Unicode line separators; lone surrogates can't be encoded.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NEEDS_QUOTES = re.compile('[,"]')


class Measurement(NamedTuple):
    """A labelled value as a sampler returns it; the recorder adds time and process."""

    label: str
    value: float


class Kind(IntEnum):
    """How a recorded value is kept: as integer nanoseconds, or as a float."""

    NANOSECONDS = 0
    FLOAT = 1


class Series(NamedTuple):
    """Names a time series: the file prefix it belongs to, its label, its kind."""

    prefix: str
    label: str
    kind: Kind


class Column(NamedTuple):
    """The observations of one series within a batch.

    `timepoints_ns` are nanoseconds since the epoch; `values` are integer
    nanoseconds or floats, as `series.kind` says. Both have the same length.
    """

    series: Series
    timepoints_ns: Sequence[int]
    values: Sequence[float]


class SegmentId(NamedTuple):
    """Names a journal segment: its writer (16 hexadecimal digits) and its number."""

    writer: str
    sequence: int


class Dropped(NamedTuple):
    """How many observations a recording has dropped for a reason, and when it last did."""

    reason: str
    total: int
    last_ns: int


class SegmentAccount(NamedTuple):
    """What a segment tells of its recording, beside the observations.

    `accepted` observations went into it, and `before` into the earlier segments of
    its writer; None where that is not known. `dropped` holds the totals of the
    recording up to there. `is_last` says that no later segment was recorded to,
    `in_order` that the recording was stopped and not cut off. `child` names the
    forked child that recorded it, whose segments have a writer each. `is_damaged`
    says that there may have been more than could be read. `at_ns` is a time of it,
    for one without observations.
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
    """The observations of one journal segment, by series.

    A batch read again after a crash has the same `segment`, so a sink can tell
    what it has kept already. `max_file_bytes` is the rotation size in force when
    it was recorded. `recovered` says that another process than its writer hands
    it over. `account` is None for a segment that was never recorded to.
    """

    segment: SegmentId
    pid: int
    max_file_bytes: int
    columns: Sequence[Column]
    recovered: bool = False
    account: SegmentAccount | None = None

    @property
    def rows(self) -> int:
        """How many observations there are."""
        return sum(len(column.timepoints_ns) for column in self.columns)


def clean_label(label: object) -> str:
    r"""Return the text under which a label is kept, at most 200 bytes of UTF-8.

    Control characters, line separators and lone surrogates become backslash
    escapes (`\n`, `\x85`, `\ud800`); everything else stays as it is. A longer
    text is cut at a character, and `~` and eight hexadecimal digits of the whole
    text's BLAKE2s are added, so that two long labels stay two.
    """
    text = label if isinstance(label, str) else str(label)
    text = _UNPRINTABLE.sub(_escape, text)
    encoded = text.encode()
    if len(encoded) <= MAX_LABEL_BYTES:
        return text
    digest = hashlib.blake2s(encoded, digest_size=_HASH_CHARS // 2).hexdigest()
    kept = encoded[: MAX_LABEL_BYTES - _HASH_CHARS - 1].decode(errors="ignore")
    return f"{kept}~{digest}"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def check_prefix(prefix: object) -> str:
    """Return a file prefix for values; raises PrefixError for one that breaks the rule.

    It must be 1 to 40 letters, digits, `_` and `-`, the first one no `-`, and none of RESERVED.
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix) or prefix in RESERVED:
        raise PrefixError(prefix)
    return prefix


def is_sampler_prefix(prefix: object) -> bool:
    """Return whether a sampler may have a file prefix: as `check_prefix`, or `runtime`."""
    try:
        return prefix == RUNTIME or check_prefix(prefix) == prefix
    except PrefixError:
        return False


def quote_field(text: str) -> str:
    """Return a CSV field by RFC 4180, quoted only where needed.

    The empty text is quoted, since SQL's COPY takes an unquoted one for NULL.
    """
    if text and not _NEEDS_QUOTES.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'
