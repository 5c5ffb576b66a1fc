"""The rules that the options of a recording have to keep, with the words that state them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aqltelemetry.observation import is_sampler_prefix
from aqltelemetry.protocols import Sampler, Sink


class Rule(NamedTuple):
    """What a value must be, in words, and whether one is."""

    text: str
    holds: Callable[[Any], bool]


_MIN_JOURNAL_BYTES = 4 << 20
_MIN_FILE_BYTES = 4 << 10
_MIN_INTERVAL_S = 0.01
# An anchor a second is kept in each segment, and there is room for 117.
_MAX_FLUSH_S = 60


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_SECONDS = Rule("must be a number of seconds above 0", lambda v: _is_number(v) and v > 0)
_BOOLEAN = Rule("must be True or False", lambda v: isinstance(v, bool))
_BYTES = Rule("must be a number of bytes, at least 0", lambda v: _is_integer(v) and v >= 0)
RULES = {
    "directory": Rule("must be a path", lambda v: isinstance(v, str) and bool(v)),
    "with_runtime": _BOOLEAN,
    "with_event_loop": _BOOLEAN,
    "with_profiler": _BOOLEAN,
    "with_fsync": _BOOLEAN,
    "interval_s": Rule(
        "must be a number of seconds, at least 0.01",
        lambda v: _is_number(v) and v >= _MIN_INTERVAL_S,
    ),
    "flush_interval_s": Rule(
        "must be a number of seconds above 0 and at most 60",
        lambda v: _is_number(v) and 0 < v <= _MAX_FLUSH_S,
    ),
    "max_file_bytes": Rule(
        "must be a number of bytes, at least 4 KiB and below 4 GiB",
        lambda v: _is_integer(v) and _MIN_FILE_BYTES <= v < 1 << 32,
    ),
    "max_file_age_s": _SECONDS,
    "keep_bytes": _BYTES,
    "keep_s": _SECONDS,
    "journal_dir": Rule(
        'must be a path, "auto" or "memory"', lambda v: isinstance(v, str) and bool(v)
    ),
    "journal_bytes": Rule(
        "must be a number of bytes, at least 4 MiB",
        lambda v: _is_integer(v) and v >= _MIN_JOURNAL_BYTES,
    ),
    "stop_timeout_s": Rule(
        "must be a number of seconds, at least 0", lambda v: _is_number(v) and v >= 0
    ),
    "samplers": Rule(
        "must be a sequence of objects with sample(), prefix and interval_s; a prefix is 1 to 40 "
        "letters, digits, '_' and '-', and not 'duration', 'account' or 'profiler'",
        lambda v: (
            isinstance(v, Sequence)
            and all(isinstance(each, Sampler) and is_sampler_prefix(each.prefix) for each in v)
        ),
    ),
    "sinks": Rule(
        "must be a sequence of objects with write(), flush() and close()",
        lambda v: isinstance(v, Sequence) and all(isinstance(each, Sink) for each in v),
    ),
}
"""By the option's name."""
