"""The options of a recording: names, defaults, rules, and the environment variables.

Each option is declared once, as a field of `Settings`. Keyword arguments, environment
variables and the options of `aqltelemetry run` derive from it; tests compare it with the keys
of `Options`, the docstrings and the table in the documentation, which repeat it.

This is the only module that reads the environment of a recorded process, except the modules
that `aqltelemetry run` starts in it and the switch of the compiled extensions.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from aqltelemetry import option_kinds as kinds
from aqltelemetry.errors import OptionError
from aqltelemetry.observation import is_sampler_prefix
from aqltelemetry.option_kinds import ENVIRONMENT_PREFIX, Bytes, Option, Seconds, Switch
from aqltelemetry.protocols import Sampler, Sink

DEFAULT_DIRECTORY = "_monitoring"
TEMPLATE_VARIABLE = "AQLTELEMETRY_TEMPLATE"
"""The variable that names the function of the hosts' option `template`, as module:function."""
RUN_ID = "AQLTELEMETRY_RUN_ID"
"""The variable that names the run of `aqltelemetry run` that a process belongs to."""
RUN_CHARS = 6
# Read by other modules, or by tests, benchmarks and examples.
_OTHER_VARIABLES = frozenset(
    ENVIRONMENT_PREFIX + name
    for name in (
        "RUN",
        "RUN_ID",
        "AUTOSTART",
        "NO_EXTENSIONS",
        "TEMPLATE",
        "CI",
        "TOKEN",
        "BENCH_RESULTS",
        "PLOT",
        "SHIP_HOST",
        "SHIP_SERVICE",
        "SHIP_INSTANCE",
    )
)
# Each segment keeps one clock anchor a second, and has room for 117.
_MAX_FLUSH_S = 60
_MIN_INTERVAL_S = 0.01
_MIN_STALL_S = 0.02
_MIN_REQUEST_S = 0.05
_MIN_ROLLUP_S, _MAX_ROLLUP_S = 0.01, 86_400
_log = logging.getLogger("aqltelemetry")


@dataclass(frozen=True)
class Settings:
    """The options of a recording, checked; `settings` makes them."""

    directory: str = field(
        default=DEFAULT_DIRECTORY,
        metadata=kinds.path("Directory of the recorded files; created if it is missing."),
    )
    with_runtime: bool = field(
        default=True,
        metadata=kinds.switch(
            "Sample the garbage collector, the process and the event loop, and record stalls."
        ),
    )
    with_event_loop: bool = field(
        default=True,
        metadata=kinds.switch("Sample the event loop: its lag and its number of tasks."),
    )
    with_stalls: bool = field(
        default=True,
        metadata=kinds.switch("Record what blocks the event loop that the recording runs on."),
    )
    with_cpu_time: bool = field(
        default=False,
        metadata=kinds.switch("Record how much of each request ran on a processor."),
    )
    with_profiler: bool = field(
        default=False,
        metadata=kinds.switch(
            "Profile from start to stop: all threads and coroutines with yappi where it is "
            "installed, else the event loop's thread with cProfile."
        ),
    )
    with_fsync: bool = field(
        default=False,
        metadata=kinds.switch(
            "Force files to the disk before they appear, against a loss of power."
        ),
    )
    interval_s: float = field(
        default=1.0,
        metadata=kinds.seconds(
            "Seconds between two samples.",
            f"a number of seconds, at least {_MIN_INTERVAL_S}",
            lambda s: s >= _MIN_INTERVAL_S,
        ),
    )
    stall_threshold_s: float = field(
        default=0.05,
        metadata=kinds.seconds_or_none(
            "Shortest time in seconds without an answer of the event loop that is recorded as a "
            "stall; 0 records none.",
            _MIN_STALL_S,
        ),
    )
    stalled_request_s: float = field(
        default=1.0,
        metadata=kinds.seconds_or_none(
            "Shortest request on a thread that is a stall; 0: none.", _MIN_REQUEST_S
        ),
    )
    flush_interval_s: float = field(
        default=5.0,
        metadata=kinds.seconds(
            "Seconds after which observations leave the journal for a file that is not yet "
            "published.",
            f"a number of seconds above 0 and at most {_MAX_FLUSH_S}",
            lambda s: 0 < s <= _MAX_FLUSH_S,
        ),
    )
    max_file_bytes: int = field(
        default=16 << 20,
        metadata=kinds.size(
            "Size that no CSV file exceeds.",
            "a number of bytes, at least 4 KiB and below 4 GiB",
            lambda n: 4 << 10 <= n < 1 << 32,
        ),
    )
    max_file_age_s: float = field(
        default=60.0,
        metadata=kinds.seconds("Seconds after which a file is published even if it is not full."),
    )
    keep_bytes: int = field(
        default=1 << 30,
        metadata=kinds.size(
            "Size of all published files above which the oldest are removed.",
            "a number of bytes, at least 0",
            lambda n: n >= 0,
        ),
    )
    keep_s: float = field(
        default=7 * 86400.0,
        metadata=kinds.seconds("Age in seconds above which files are removed."),
    )
    journal_dir: str = field(
        default="auto",
        metadata=kinds.path(
            'Directory of the journal; "auto" chooses one, "memory" uses no files.',
            'a path, "auto" or "memory"',
        ),
    )
    journal_bytes: int = field(
        default=64 << 20,
        metadata=kinds.size(
            "Size of a process's journal above which new observations are dropped and counted.",
            "a number of bytes, at least 4 MiB",
            lambda n: n >= 4 << 20,
        ),
    )
    stop_timeout_s: float = field(
        default=5.0,
        metadata=kinds.seconds(
            "Longest time in seconds that a stop takes.",
            "a number of seconds, at least 0",
            lambda s: s >= 0,
        ),
    )
    compact_after_s: float = field(
        default=0.0,
        metadata=kinds.seconds_or_none(
            "Age in seconds from which files are archived; 0 for none.", 60
        ),
    )
    compact_rollup_s: float = field(
        default=0.0,
        metadata=kinds.seconds(
            "Interval in seconds of the roll-ups that are made of archives; 0 for none.",
            f"0, or a number of seconds from {_MIN_ROLLUP_S} to {_MAX_ROLLUP_S}",
            lambda s: s == 0 or _MIN_ROLLUP_S <= s <= _MAX_ROLLUP_S,
        ),
    )
    keep_rollups_s: float = field(
        default=400 * 86400.0,
        metadata=kinds.seconds("Age in seconds above which roll-ups are removed."),
    )
    ship_to: str = field(
        default="",
        repr=False,  # it may contain a password
        metadata=kinds.url("Store that a process of its own ships published files to."),
    )
    with_dump: str = field(
        default="",
        metadata=kinds.conditions(
            "When a process next to the recorded ones copies the last minute of the recording "
            "aside."
        ),
    )
    keep_dump_bytes: int = field(
        default=256 << 20,
        metadata=kinds.size(
            "Size of all dumps above which the oldest are removed.",
            "a number of bytes, at least 1 MiB",
            lambda n: n >= 1 << 20,
        ),
    )
    samplers: Sequence[Sampler] = field(
        default=(),
        metadata=kinds.objects(
            "Samplers to run in addition to the built-in ones.",
            "sample(), prefix and interval_s; a prefix is 1 to 40 letters, digits, '_' and '-', "
            "and not 'duration', 'account', 'profiler', 'cpu_time', 'stall', 'stall-details' or "
            "'removed'",
            lambda each: isinstance(each, Sampler) and is_sampler_prefix(each.prefix),
        ),
    )
    sinks: Sequence[Sink] = field(
        default=(),
        metadata=kinds.objects(
            "Sinks to write to in addition to the CSV files.",
            "write(), flush() and close()",
            lambda each: isinstance(each, Sink),
        ),
    )


class Options(TypedDict, total=False):
    """The options of `Settings` as keyword arguments of `Monitor`, `start` and `setup`."""

    with_runtime: Switch
    with_event_loop: Switch
    with_stalls: Switch
    with_cpu_time: Switch
    with_profiler: Switch
    with_fsync: Switch
    interval_s: Seconds
    stall_threshold_s: Seconds
    stalled_request_s: Seconds
    flush_interval_s: Seconds
    max_file_bytes: Bytes
    max_file_age_s: Seconds
    keep_bytes: Bytes
    keep_s: Seconds
    journal_dir: str | os.PathLike[str]
    journal_bytes: Bytes
    stop_timeout_s: Seconds
    compact_after_s: Seconds
    compact_rollup_s: Seconds
    keep_rollups_s: Seconds
    ship_to: str
    with_dump: str
    keep_dump_bytes: Bytes
    samplers: Sequence[Sampler]
    sinks: Sequence[Sink]


OPTIONS: Mapping[str, Option] = {
    each.name: Option(each.name, each.default, **each.metadata) for each in fields(Settings)
}
"""All options by name, in the order of their declaration."""
for _class in (Settings, Options):
    _class.__doc__ = f"{_class.__doc__}\n\n    Options:\n" + "\n".join(
        f"        {option.keyword}: {option.help} Default: {option.default_text}."
        for option in OPTIONS.values()
        if _class is Settings or option.name != "directory"
    )
TEXT_OPTIONS: Mapping[str, Option] = {
    name: option for name, option in OPTIONS.items() if option.metavar
}
"""The options that a text can give, and so the environment and the command line."""


def settings(
    directory: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return checked settings: the given value, else the environment's, else the default.

    Parameters:
        directory: The monitoring directory.
        options: Values by the name of the option. A text is accepted wherever the environment
            accepts one: `keep_bytes="2g"`, `keep_s="1h30m"`, `with_fsync="yes"`.
        environ: The environment; by default that of this process, or an empty one in a program
            that runs as another user than the one who started it.

    Raises:
        OptionError: An option is unknown or its value breaks its rule. A wrong value in this
            process's own environment is logged once instead, and the default is used.

    Example:
        >>> settings("/var/lib/app/monitoring", {"keep_bytes": "2g"}).keep_bytes
        2147483648
    """
    values = dict(_from_own_environment() if environ is None else _from_environment(environ))
    for name, value in (options or {}).items():
        if name not in OPTIONS or name == "directory":
            names = ", ".join(sorted({*OPTIONS} - {"directory"}))
            raise OptionError(name, value, f"unknown; there are {names}")
        values[name] = OPTIONS[name].checked(value, name)
    if directory is not None:
        option = OPTIONS["directory"]
        values["directory"] = option.checked(directory, option.keyword)
    # Absolute from here on: a later change of the working directory moves nothing.
    # Where the working directory was removed, the start fails, not this function.
    with suppress(FileNotFoundError):
        values["directory"] = os.path.abspath(values.get("directory", DEFAULT_DIRECTORY))
    return Settings(**values)


def template_name(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the name that AQLTELEMETRY_TEMPLATE gives, or None where it is unset."""
    return (_own_environment() if environ is None else environ).get(TEMPLATE_VARIABLE) or None


def default_directory() -> str:
    """Return the monitoring directory that is used where none is given."""
    return _own_environment().get(OPTIONS["directory"].variable) or DEFAULT_DIRECTORY


def run_name(environ: Mapping[str, str] | None = None) -> str:
    """Return how the names of this process's writers start: with the run it belongs to, or ""."""
    run = (os.environ if environ is None else environ).get(RUN_ID, "").partition("/")[0]
    is_one = len(run) == RUN_CHARS and not run.strip("0123456789abcdef")
    return run if is_one else ""


def variables(options: Mapping[str, str]) -> dict[str, str]:
    """Return options, given as texts, as environment variables."""
    return {
        OPTIONS[name].variable if name in OPTIONS else ENVIRONMENT_PREFIX + name.upper(): text
        for name, text in options.items()
    }


def _own_environment() -> Mapping[str, str]:
    # Another user's variables must not decide where this one writes and what it imports.
    return os.environ if os.geteuid() == os.getuid() else {}


def _from_own_environment() -> Mapping[str, Any]:
    """Return the values in this process's environment; log what is wrong in it, once."""
    environ = _own_environment()
    problems: list[OptionError] = []
    values = _from_environment(environ, problems)
    for problem in problems:
        _log_once(str(problem), "the default is used")
    known = _OTHER_VARIABLES | {option.variable for option in TEXT_OPTIONS.values()}
    for name in environ:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            _log_once(f"the environment variable {name} is unknown", _suggested(name, known))
    return values


def _from_environment(
    environ: Mapping[str, str], problems: list[OptionError] | None = None
) -> Mapping[str, Any]:
    """Return the values in an environment; raise what is wrong, or add it to `problems`."""
    values: dict[str, Any] = {}
    for name, option in TEXT_OPTIONS.items():
        if not (text := environ.get(option.variable, "")):
            continue
        try:
            values[name] = option.checked(text, option.variable)
        except OptionError as exc:
            if problems is None:
                raise
            problems.append(exc)
    return values


_LOGGED: set[str] = set()


def _log_once(problem: str, consequence: str) -> None:
    if problem not in _LOGGED:
        _LOGGED.add(problem)
        with suppress(Exception):  # the application's own log handler may raise
            _log.warning("%s; %s", problem, consequence)


def _suggested(name: str, known: AbstractSet[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only mistakes need it

    # Compared without their common prefix.
    names = [each.removeprefix(ENVIRONMENT_PREFIX) for each in sorted(known - _OTHER_VARIABLES)]
    close = get_close_matches(name.removeprefix(ENVIRONMENT_PREFIX), names, n=1, cutoff=0.5)
    return f"did you mean {ENVIRONMENT_PREFIX}{close[0]}?" if close else "it is ignored"
