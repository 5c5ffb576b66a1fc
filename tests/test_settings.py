from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import aqltelemetry
from aqltelemetry.commands.run import run
from aqltelemetry.errors import OptionError
from aqltelemetry.observation import RESERVED
from aqltelemetry.option_kinds import Option
from aqltelemetry.quantities import parse_bytes, parse_seconds
from aqltelemetry.settings import (
    DEFAULT_DIRECTORY,
    OPTIONS,
    TEXT_OPTIONS,
    Options,
    Settings,
    settings,
)
from fakes import FakeSampler, MemorySink
from options_table import options_table


def test_the_keyword_type_has_the_options_in_the_order_of_their_declaration() -> None:
    assert ["directory", *Options.__annotations__] == [*OPTIONS]


_KEYWORD_TYPES = {
    "bool": "Switch",
    "float": "Seconds",
    "int": "Bytes",
    "str": "str | os.PathLike[str]",
}


def test_the_keyword_type_accepts_what_each_declaration_parses() -> None:
    declared = {each.name: str(each.type) for each in dataclasses.fields(Settings)}
    expected = {name: _KEYWORD_TYPES.get(kind, kind) for name, kind in declared.items()}
    given = {name: each.__forward_arg__ for name, each in Options.__annotations__.items()}
    del expected["directory"]
    expected["ship_to"] = expected["with_dump"] = "str"  # these are no paths
    assert given == expected


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_each_default_keeps_its_rule(option: Option) -> None:
    assert option.checked(option.default, option.name) == option.default


@pytest.mark.parametrize("option", TEXT_OPTIONS.values(), ids=TEXT_OPTIONS)
def test_the_text_of_each_default_gives_the_default(option: Option) -> None:
    assert option.checked(option.default_text, option.name) == option.default


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_the_help_of_an_option_is_a_sentence(option: Option) -> None:
    assert re.fullmatch(r"[A-Z].*[a-z]\.", option.help)


@pytest.mark.parametrize("option", TEXT_OPTIONS.values(), ids=TEXT_OPTIONS)
def test_the_command_run_has_each_option_that_a_text_can_give(option: Option) -> None:
    names = {name for parameter in run.params for name in parameter.opts}
    assert option.flag in names


@pytest.mark.parametrize("documented", [Settings, Options])
def test_help_lists_each_option_with_its_default(documented: type) -> None:
    text = documented.__doc__ or ""
    assert "keep_s: Age in seconds above which files are removed. Default: 7 days." in text
    names = re.findall(r"^        (\w+): ", text, re.MULTILINE)
    assert names == [OPTIONS[name].keyword for name in OPTIONS][-len(names) :]
    assert len(names) >= len(OPTIONS) - 1


def test_the_table_of_options_has_a_row_for_each_option() -> None:
    _, _, *rows = options_table()
    assert len(rows) == len(OPTIONS)
    assert (
        "| `interval_s` | `1 s` | a number of seconds, at least 0.01 | "
        "Seconds between two samples. |"
    ) in rows
    assert rows[0].startswith("| `monitoring_dir` | `_monitoring` | a path |")


def test_defaults_are_as_documented() -> None:
    chosen = settings(environ={})
    assert chosen.directory == os.path.abspath("_monitoring")
    assert (chosen.interval_s, chosen.flush_interval_s, chosen.max_file_age_s) == (1, 5, 60)
    assert chosen.max_file_bytes == 16 * 1024**2
    assert (chosen.keep_bytes, chosen.keep_s) == (1024**3, 7 * 24 * 3600)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("with_runtime", 1),
        ("with_profiler", "maybe"),
        ("interval_s", 0),
        ("interval_s", -1.0),
        ("interval_s", 0.001),
        ("interval_s", math.nan),
        ("interval_s", math.inf),
        ("interval_s", True),
        ("interval_s", "often"),
        ("interval_s", "1 fortnight"),
        ("interval_s", timedelta(0)),
        ("keep_s", timedelta(days=-1)),
        ("keep_bytes", "2 gigs"),
        ("keep_bytes", timedelta(1)),
        ("flush_interval_s", 0),
        ("flush_interval_s", 61),
        ("max_file_bytes", 4095),
        ("max_file_bytes", 2**32),
        ("max_file_bytes", 1e7),
        ("max_file_age_s", 0),
        ("keep_bytes", -1),
        ("keep_bytes", True),
        ("keep_s", 0),
        ("journal_dir", ""),
        ("journal_dir", None),
        ("journal_dir", 7),
        ("journal_bytes", 2**20),
        ("stop_timeout_s", -1),
        ("samplers", [object()]),
        ("samplers", FakeSampler()),
        *(
            ("samplers", [FakeSampler(prefix=str(prefix))])
            for prefix in ("../x", *RESERVED)
            if prefix != "runtime"
        ),
        ("sinks", [object()]),
        ("sinks", None),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_rule(name: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        settings("x", {name: value}, {})
    assert (caught.value.option, caught.value.value) == (name, value)
    assert str(caught.value).startswith(f"{name}={value!r}: must be ")


def test_an_unknown_option_raises_an_error_that_names_the_options() -> None:
    with pytest.raises(OptionError, match=r"intervall=1: unknown; there are .*interval_s"):
        settings("x", {"intervall": 1}, {})
    with pytest.raises(OptionError, match="unknown"):
        settings("x", {"directory": "y"}, {})


@pytest.mark.parametrize("directory", ["", 7])
def test_a_directory_that_is_no_path_is_an_error(directory: Any) -> None:
    with pytest.raises(OptionError, match=f"monitoring_dir={directory!r}: must be a path"):
        settings(directory, environ={})


def test_a_path_object_is_kept_as_a_text(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "m", {"journal_dir": tmp_path / "j"}, {})
    assert (chosen.directory, chosen.journal_dir) == (str(tmp_path / "m"), str(tmp_path / "j"))


def test_a_relative_directory_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings("m", environ={}).directory == str(tmp_path / "m")


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("AQLTELEMETRY_WITH_RUNTIME", "0", "with_runtime", False),
        ("AQLTELEMETRY_WITH_PROFILER", "Yes", "with_profiler", True),
        ("AQLTELEMETRY_INTERVAL_S", "0.5", "interval_s", 0.5),
        ("AQLTELEMETRY_FLUSH_INTERVAL_S", "2", "flush_interval_s", 2.0),
        ("AQLTELEMETRY_MAX_FILE_BYTES", "8m", "max_file_bytes", 8 << 20),
        ("AQLTELEMETRY_MAX_FILE_AGE_S", "30", "max_file_age_s", 30.0),
        ("AQLTELEMETRY_KEEP_BYTES", "2G", "keep_bytes", 2 << 30),
        ("AQLTELEMETRY_KEEP_S", "86400", "keep_s", 86400.0),
        ("AQLTELEMETRY_JOURNAL_DIR", "/j", "journal_dir", "/j"),
        ("AQLTELEMETRY_JOURNAL_BYTES", "4096k", "journal_bytes", 4 << 20),
        ("AQLTELEMETRY_STOP_TIMEOUT_S", "1", "stop_timeout_s", 1.0),
        ("AQLTELEMETRY_DIR", "/somewhere", "directory", "/somewhere"),
    ],
)
def test_each_simple_option_is_an_environment_variable(
    variable: str, text: str, name: str, value: object
) -> None:
    assert getattr(settings(environ={variable: text}), name) == value


def test_an_argument_wins_over_the_environment() -> None:
    environ = {"AQLTELEMETRY_INTERVAL_S": "2", "AQLTELEMETRY_DIR": "/env"}
    chosen = settings("/given", {"interval_s": 3.0}, environ)
    assert (chosen.interval_s, chosen.directory) == (3.0, "/given")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AQLTELEMETRY_INTERVAL_S", "often"),
        ("AQLTELEMETRY_WITH_RUNTIME", "maybe"),
        ("AQLTELEMETRY_KEEP_BYTES", "2 gigabytes"),
        ("AQLTELEMETRY_KEEP_BYTES", "m"),
        ("AQLTELEMETRY_KEEP_BYTES", "-1"),
        ("AQLTELEMETRY_INTERVAL_S", "0"),
    ],
)
def test_an_error_names_the_variable_that_is_wrong(variable: str, text: str) -> None:
    with pytest.raises(OptionError, match=f"{variable}='{text}': must be"):
        settings(environ={variable: text})


@pytest.fixture
def warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[], list[str]]:
    """Return a function that lists the warnings; nothing counts as logged before."""
    monkeypatch.setattr("aqltelemetry.settings._LOGGED", set())
    caplog.set_level("WARNING", "aqltelemetry")
    return lambda: [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("variable", "text", "name"),
    [
        ("AQLTELEMETRY_INTERVAL_S", "often", "interval_s"),
        ("AQLTELEMETRY_INTERVAL_S", "0", "interval_s"),
        ("AQLTELEMETRY_WITH_RUNTIME", "maybe", "with_runtime"),
        ("AQLTELEMETRY_KEEP_BYTES", "2 gigabytes and more", "keep_bytes"),
        ("AQLTELEMETRY_JOURNAL_BYTES", "1k", "journal_bytes"),
    ],
)
def test_a_bad_variable_of_the_process_is_logged_once_and_the_default_is_used(
    monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
    variable: str,
    text: str,
    name: str,
) -> None:
    monkeypatch.setenv(variable, text)
    for _ in range(2):
        assert getattr(settings("x"), name) == getattr(Settings(), name)
    (line,) = warnings()
    assert line.startswith(f"{variable}={text!r}: must be ")
    assert line.endswith("; the default is used")


@pytest.mark.parametrize(
    ("variable", "consequence"),
    [
        ("AQLTELEMETRY_KEEP_BYTE", "did you mean AQLTELEMETRY_KEEP_BYTES?"),
        ("AQLTELEMETRY_DIRECTORY", "did you mean AQLTELEMETRY_DIR?"),
        ("AQLTELEMETRY_INTERVAL", "did you mean AQLTELEMETRY_INTERVAL_S?"),
        ("AQLTELEMETRY_XYZZY", "it is ignored"),
    ],
)
def test_an_unknown_variable_is_logged_once_with_the_closest_name(
    monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
    variable: str,
    consequence: str,
) -> None:
    monkeypatch.setenv(variable, "1")
    for _ in range(2):
        settings("x")
    assert warnings() == [f"the environment variable {variable} is unknown; {consequence}"]


def test_every_variable_that_the_package_reads_is_known(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    package = Path(aqltelemetry.__file__).parent
    texts = [path.read_text() for path in package.rglob("*.py")]
    found = {each for text in texts for each in re.findall(r"AQLTELEMETRY_[A-Z_]*[A-Z]", text)}
    assert {"AQLTELEMETRY_RUN", "AQLTELEMETRY_NO_EXTENSIONS", "AQLTELEMETRY_TEMPLATE"} <= found
    for variable in found - {"AQLTELEMETRY_NO_EXTENSIONS"}:
        monkeypatch.setenv(variable, "1s" if variable.endswith("_S") else "yes")
    settings("x")
    assert not [line for line in warnings() if "unknown" in line]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("interval_s", timedelta(milliseconds=500), 0.5),
        ("interval_s", "1", 1.0),
        ("interval_s", "500ms", 0.5),
        ("flush_interval_s", "1m", 60.0),
        ("keep_s", "7d", 7 * 86400.0),
        ("keep_s", "1h30m", 5400.0),
        ("keep_s", " 1 week ", 7 * 86400.0),
        ("keep_s", "1.5 hours", 5400.0),
        ("keep_bytes", "2g", 2 << 30),
        ("keep_bytes", "2GB", 2 << 30),
        ("keep_bytes", "2 GiB", 2 << 30),
        ("keep_bytes", "1.5m", 3 << 19),
        ("keep_bytes", "512 kb", 512 << 10),
        ("keep_bytes", "100", 100),
        ("keep_bytes", "100 bytes", 100),
        ("with_fsync", "yes", True),
        ("with_runtime", "OFF", False),
    ],
)
def test_arguments_and_the_environment_accept_the_same_values(
    name: str, value: Any, expected: object
) -> None:
    assert getattr(settings("x", {name: value}, {}), name) == expected
    if isinstance(value, str):
        environ = {f"AQLTELEMETRY_{name.upper()}": value}
        assert getattr(settings("x", environ=environ), name) == expected


@pytest.mark.parametrize("text", ["", " ", "b", "1.5", "1 gb 2 mb", "-1", "1e3", "g", "1z", "1.m"])
def test_a_text_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) + "$"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", " ", "s", "1x", "h1", "1,5", "one"])
def test_a_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) + "$"):
        parse_seconds(text)


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings(environ={"AQLTELEMETRY_INTERVAL_S": ""}).interval_s == 1.0


def test_user_defined_samplers_and_sinks_are_kept() -> None:
    sampler, sink = FakeSampler(), MemorySink()
    chosen = settings("x", {"samplers": [sampler], "sinks": (sink,)}, {})
    assert (list(chosen.samplers), list(chosen.sinks)) == ([sampler], [sink])


def test_a_program_run_as_another_user_ignores_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AQLTELEMETRY_DIR", "/elsewhere")
    assert settings().directory == "/elsewhere"
    other = os.getuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: other)
    assert settings().directory == os.path.abspath(DEFAULT_DIRECTORY)


def test_a_relative_directory_stays_relative_if_the_working_directory_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = tmp_path / "release"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    assert settings().directory == DEFAULT_DIRECTORY
    assert settings("/elsewhere").directory == "/elsewhere"
