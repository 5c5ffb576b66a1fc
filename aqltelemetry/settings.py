"""The options of a monitor: their defaults, rules and environment variables.

This is the only module that reads the environment, but for `twins`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypedDict

from aqltelemetry.errors import OptionError
from aqltelemetry.observation import is_sampler_prefix
from aqltelemetry.protocols import Sampler, Sink

DEFAULT_DIRECTORY = "_monitoring"
_ENVIRONMENT_PREFIX = "AQLTELEMETRY_"
TEMPLATE_VARIABLE = "AQLTELEMETRY_TEMPLATE"
"""The variable that names the function of the hosts' option `template`, as module:function."""
_SUFFIXES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Options(TypedDict, total=False):
    """What `Monitor` and the hosts take as keyword arguments; see `Settings`."""

    with_runtime: bool
    with_event_loop: bool
    with_profiler: bool
    with_fsync: bool
    interval_s: float
    flush_interval_s: float
    max_file_bytes: int
    max_file_age_s: float
    keep_bytes: int
    keep_s: float
    journal_dir: str | os.PathLike[str]
    journal_bytes: int
    stop_timeout_s: float
    samplers: Sequence[Sampler]
    sinks: Sequence[Sink]


class Settings(NamedTuple):
    """The options of a recording; what `settings` returns is checked."""

    directory: str = DEFAULT_DIRECTORY
    """The monitoring directory, AQLTELEMETRY_DIR; made absolute."""
    with_runtime: bool = True
    """Whether to sample the collector, the process, the event loop and the telemetry."""
    with_event_loop: bool = True
    """Whether the event loop is among that: its lag, and the number of tasks."""
    with_profiler: bool = False
    """Whether to profile the event loop's thread by cProfile, until the stop."""
    with_fsync: bool = False
    """Whether files are on the disk when they appear, lest a loss of power empty them."""
    interval_s: float = 1.0
    """Seconds between two samples."""
    flush_interval_s: float = 5.0
    """Seconds after which a journal segment is handed to the sinks though not full."""
    max_file_bytes: int = 16 << 20
    """Size that a CSV file does not exceed."""
    max_file_age_s: float = 60.0
    """Seconds after which a CSV file is published though not full."""
    keep_bytes: int = 1 << 30
    """Size of all CSV files of the directory above which the oldest are removed."""
    keep_s: float = 7 * 86400.0
    """Age in seconds above which CSV files are removed."""
    journal_dir: str = "auto"
    """Where the journal is; "auto" by the rule of the docs, "memory" for no files."""
    journal_bytes: int = 64 << 20
    """Size of a process's journal above which what is newest is dropped, and counted."""
    stop_timeout_s: float = 5.0
    """Seconds that `stop` takes at most."""
    samplers: Sequence[Sampler] = ()
    """Samplers beside the built-in ones."""
    sinks: Sequence[Sink] = ()
    """Sinks beside the CSV files."""


_DEFAULTS = Settings._field_defaults


class _Rule(NamedTuple):
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


_SECONDS = _Rule("must be a number of seconds above 0", lambda v: _is_number(v) and v > 0)
_BOOLEAN = _Rule("must be True or False", lambda v: isinstance(v, bool))
_BYTES = _Rule("must be a number of bytes, at least 0", lambda v: _is_integer(v) and v >= 0)
_RULES = {
    "directory": _Rule("must be a path", lambda v: isinstance(v, str) and bool(v)),
    "with_runtime": _BOOLEAN,
    "with_event_loop": _BOOLEAN,
    "with_profiler": _BOOLEAN,
    "with_fsync": _BOOLEAN,
    "interval_s": _Rule(
        "must be a number of seconds, at least 0.01",
        lambda v: _is_number(v) and v >= _MIN_INTERVAL_S,
    ),
    "flush_interval_s": _Rule(
        "must be a number of seconds above 0 and at most 60",
        lambda v: _is_number(v) and 0 < v <= _MAX_FLUSH_S,
    ),
    "max_file_bytes": _Rule(
        "must be a number of bytes, at least 4 KiB and below 4 GiB",
        lambda v: _is_integer(v) and _MIN_FILE_BYTES <= v < 1 << 32,
    ),
    "max_file_age_s": _SECONDS,
    "keep_bytes": _BYTES,
    "keep_s": _SECONDS,
    "journal_dir": _Rule(
        'must be a path, "auto" or "memory"', lambda v: isinstance(v, str) and bool(v)
    ),
    "journal_bytes": _Rule(
        "must be a number of bytes, at least 4 MiB",
        lambda v: _is_integer(v) and v >= _MIN_JOURNAL_BYTES,
    ),
    "stop_timeout_s": _Rule(
        "must be a number of seconds, at least 0", lambda v: _is_number(v) and v >= 0
    ),
    "samplers": _Rule(
        "must be a sequence of objects with sample(), prefix and interval_s; a prefix is 1 to 40 "
        "letters, digits, '_' and '-', and not 'duration', 'account' or 'profiler'",
        lambda v: (
            isinstance(v, Sequence)
            and all(isinstance(each, Sampler) and is_sampler_prefix(each.prefix) for each in v)
        ),
    ),
    "sinks": _Rule(
        "must be a sequence of objects with write(), flush() and close()",
        lambda v: isinstance(v, Sequence) and all(isinstance(each, Sink) for each in v),
    ),
}


def settings(
    directory: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return checked settings: what is given, else the environment's, else the default.

    Each option of a simple type is also a variable, AQLTELEMETRY_INTERVAL_S for
    `interval_s`; sizes may end in k, m or g. A program that runs as another user than
    the one who started it takes nothing of the environment. Raises OptionError.
    """
    values = dict(_from_environment(_own_environment() if environ is None else environ))
    for name, value in (options or {}).items():
        if name not in _RULES or name == "directory":
            names = ", ".join(sorted({*_RULES} - {"directory"}))
            raise OptionError(name, value, f"unknown; there are {names}")
        values[name] = value
    if directory is not None:
        values["directory"] = directory
    for name in ("directory", "journal_dir"):
        if isinstance(path := values.get(name), os.PathLike):
            values[name] = os.fspath(path)
    chosen = values.get("directory", DEFAULT_DIRECTORY)
    if isinstance(chosen, str) and chosen:
        # Absolute from here on: a later change of the working directory moves nothing.
        # Where the working directory was removed, it is for the start to fail, not for this.
        with suppress(FileNotFoundError):
            values["directory"] = os.path.abspath(chosen)
    for name, value in values.items():
        if not _RULES[name].holds(value):
            shown = "monitoring_dir" if name == "directory" else name
            raise OptionError(shown, value, _RULES[name].text)
    return Settings(**values)


def template_name(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the name that AQLTELEMETRY_TEMPLATE gives, or None where it is unset."""
    return (_own_environment() if environ is None else environ).get(TEMPLATE_VARIABLE) or None


def default_directory() -> str:
    """Return the monitoring directory that is used where none is given."""
    return _own_environment().get(_variable("directory")) or DEFAULT_DIRECTORY


def variables(options: Mapping[str, str]) -> dict[str, str]:
    """Return options, given as texts, as environment variables."""
    return {_variable(name): text for name, text in options.items()}


def text_options() -> Mapping[str, tuple[str, object]]:
    """Return the options that a text can give: by name, what the text is, and the default."""
    return {
        name: (_PARSERS[type(default)][2], default)
        for name, default in _DEFAULTS.items()
        if type(default) in _PARSERS
    }


def _own_environment() -> Mapping[str, str]:
    # What another user may have set says neither where this one writes nor what it imports.
    return os.environ if os.geteuid() == os.getuid() else {}


def _variable(name: str) -> str:
    return _ENVIRONMENT_PREFIX + ("DIR" if name == "directory" else name.upper())


def _from_environment(environ: Mapping[str, str]) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        variable, kind = _variable(name), type(default)
        if kind in _PARSERS and (text := environ.get(variable, "")):
            parse, form, _ = _PARSERS[kind]
            try:
                values[name] = parse(text)
            except ValueError:
                raise OptionError(variable, text, f"must be {form}") from None
            if not _RULES[name].holds(values[name]):
                raise OptionError(variable, text, _RULES[name].text)
    return values


def _parse_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _parse_int(text: str) -> int:
    unit = _SUFFIXES.get(text[-1].lower())
    return int(text) if unit is None else int(text[:-1]) * unit


# By the type of an option's default.
_PARSERS: dict[type, tuple[Callable[[str], object], str, str]] = {
    str: (str, "a path", "PATH"),
    bool: (_parse_bool, "1, true, yes, on, 0, false, no or off", "yes|no"),
    int: (_parse_int, "a whole number of bytes, after which k, m or g may stand", "BYTES"),
    float: (float, "a number of seconds", "SECONDS"),
}
