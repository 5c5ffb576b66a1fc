"""The options of a monitor: their defaults, rules and environment variables.

This is the only module that reads the environment, but for `twins`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias, TypedDict

from aqltelemetry.errors import OptionError
from aqltelemetry.option_rules import RULES
from aqltelemetry.protocols import Sampler, Sink
from aqltelemetry.quantities import (
    BYTES_FORM,
    SECONDS_FORM,
    SWITCH_FORM,
    parse_bytes,
    parse_seconds,
    parse_switch,
)

Switch: TypeAlias = bool | str
"""Whether something is on: True, False, or a text such as "yes" or "off"."""
Seconds: TypeAlias = float | str | timedelta
"""A time: a number of seconds, a timedelta, or a text such as "90s", "1h30m" or "7d"."""
Bytes: TypeAlias = int | str
"""A size: a number of bytes, or a text such as "64m" or "2 GiB"."""
DEFAULT_DIRECTORY = "_monitoring"
_ENVIRONMENT_PREFIX = "AQLTELEMETRY_"
TEMPLATE_VARIABLE = "AQLTELEMETRY_TEMPLATE"
"""The variable that names the function of the hosts' option `template`, as module:function."""
# Read elsewhere, or by the tests, benchmarks and examples.
_OTHER_VARIABLES = frozenset(
    _ENVIRONMENT_PREFIX + name
    for name in (
        "RUN",
        "RUN_ID",
        "AUTOSTART",
        "NO_EXTENSIONS",
        "TEMPLATE",
        "CI",
        "BENCH_RESULTS",
        "PLOT",
    )
)
_log = logging.getLogger("aqltelemetry")


RUN_ID = "AQLTELEMETRY_RUN_ID"
"""The variable that names the run of `aqltelemetry run` that a process belongs to."""
RUN_CHARS = 6


class Options(TypedDict, total=False):
    """What `Monitor` and the hosts take as keyword arguments; see `Settings`."""

    with_runtime: Switch
    with_event_loop: Switch
    with_profiler: Switch
    with_fsync: Switch
    interval_s: Seconds
    flush_interval_s: Seconds
    max_file_bytes: Bytes
    max_file_age_s: Seconds
    keep_bytes: Bytes
    keep_s: Seconds
    journal_dir: str | os.PathLike[str]
    journal_bytes: Bytes
    stop_timeout_s: Seconds
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


def settings(
    directory: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return checked settings: what is given, else the environment's, else the default.

    Each option of a simple type is also a variable, AQLTELEMETRY_INTERVAL_S for
    `interval_s`. The same values are taken everywhere: numbers, a timedelta, texts such as
    "2g" or "1h30m". A program that runs as another user than the one who started it takes
    nothing of the environment.

    Raises OptionError for what is given. What is wrong in this process's environment is
    logged once, and the default is used; in an `environ` that is given, it is raised too.
    """
    values = dict(_from_own_environment() if environ is None else _from_environment(environ))
    given = options or {}
    for name, value in given.items():
        if name not in RULES or name == "directory":
            names = ", ".join(sorted({*RULES} - {"directory"}))
            raise OptionError(name, value, f"unknown; there are {names}")
        values[name] = _parsed(name, name, value)
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
        if not RULES[name].holds(value):
            shown = "monitoring_dir" if name == "directory" else name
            raise OptionError(shown, given.get(name, value), RULES[name].text)
    return Settings(**values)


def template_name(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the name that AQLTELEMETRY_TEMPLATE gives, or None where it is unset."""
    return (_own_environment() if environ is None else environ).get(TEMPLATE_VARIABLE) or None


def default_directory() -> str:
    """Return the monitoring directory that is used where none is given."""
    return _own_environment().get(_variable("directory")) or DEFAULT_DIRECTORY


def run_name(environ: Mapping[str, str] | None = None) -> str:
    """Return what the names of this process's writers begin with: the run it belongs to."""
    run = (os.environ if environ is None else environ).get(RUN_ID, "").partition("/")[0]
    is_one = len(run) == RUN_CHARS and not run.strip("0123456789abcdef")
    return run if is_one else ""


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


def _from_own_environment() -> Mapping[str, Any]:
    """Return what this process's environment says; what is wrong in it is logged once."""
    environ = _own_environment()
    problems: list[OptionError] = []
    values = _from_environment(environ, problems)
    for problem in problems:
        _log_once(str(problem), "the default is used")
    known = _OTHER_VARIABLES | {_variable(name) for name in text_options()}
    for name in environ:
        if name.startswith(_ENVIRONMENT_PREFIX) and name not in known:
            _log_once(f"the environment variable {name} is unknown", _suggested(name, known))
    return values


def _from_environment(
    environ: Mapping[str, str], problems: list[OptionError] | None = None
) -> Mapping[str, Any]:
    """Return what an environment says; what is wrong is raised, or added to `problems`."""
    values: dict[str, Any] = {}
    for name in text_options():
        variable = _variable(name)
        if not (text := environ.get(variable, "")):
            continue
        try:
            values[name] = _checked(name, variable, text)
        except OptionError as exc:
            if problems is None:
                raise
            problems.append(exc)
    return values


def _checked(name: str, variable: str, text: str) -> object:
    value = _parsed(name, variable, text)
    if not RULES[name].holds(value):
        raise OptionError(variable, text, RULES[name].text)
    return value


def _parsed(name: str, shown: str, value: object) -> object:
    """Return the value that a text or a timedelta stands for, and any other as it is."""
    parse, form, _ = _PARSERS.get(type(_DEFAULTS[name]), _AS_IT_IS)
    if not isinstance(value, str) and not (isinstance(value, timedelta) and parse is parse_seconds):
        return value
    try:
        return parse(value)
    except ValueError:
        raise OptionError(shown, value, f"must be {form}") from None


_LOGGED: set[str] = set()


def _log_once(problem: str, consequence: str) -> None:
    if problem not in _LOGGED:
        _LOGGED.add(problem)
        with suppress(Exception):  # a handler of the application's own may raise
            _log.warning("%s; %s", problem, consequence)


def _suggested(name: str, known: AbstractSet[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - which only mistakes need

    # Without what all of them begin with.
    names = [each.removeprefix(_ENVIRONMENT_PREFIX) for each in sorted(known - _OTHER_VARIABLES)]
    close = get_close_matches(name.removeprefix(_ENVIRONMENT_PREFIX), names, n=1, cutoff=0.5)
    return f"did you mean {_ENVIRONMENT_PREFIX}{close[0]}?" if close else "it is ignored"


def _as_it_is(value: Any) -> object:
    return value


_AS_IT_IS = (_as_it_is, "", "")
# By the type of an option's default.
_PARSERS: dict[type, tuple[Callable[[Any], object], str, str]] = {
    str: (str, "a path", "PATH"),
    bool: (parse_switch, SWITCH_FORM, "yes|no"),
    int: (parse_bytes, BYTES_FORM, "BYTES"),
    float: (parse_seconds, SECONDS_FORM, "SECONDS"),
}
