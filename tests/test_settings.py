from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from aqltelemetry.errors import OptionError
from aqltelemetry.settings import _RULES, DEFAULT_DIRECTORY, Options, Settings, settings
from fakes import FakeSampler, MemorySink


def test_every_option_has_a_rule_and_a_place_among_the_keywords() -> None:
    names = set(Settings._fields)
    assert set(_RULES) == names
    assert set(Options.__annotations__) == names - {"directory"}


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
        ("with_profiler", "yes"),
        ("interval_s", 0),
        ("interval_s", -1.0),
        ("interval_s", 0.001),
        ("interval_s", math.nan),
        ("interval_s", math.inf),
        ("interval_s", True),
        ("interval_s", "1"),
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
            for prefix in ("duration", "account", "profiler", "../x")
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


def test_an_unknown_option_is_told_with_what_there_is() -> None:
    with pytest.raises(OptionError, match=r"intervall=1: unknown; there are .*interval_s"):
        settings("x", {"intervall": 1}, {})
    with pytest.raises(OptionError, match="unknown"):
        settings("x", {"directory": "y"}, {})


@pytest.mark.parametrize("directory", ["", 7])
def test_a_directory_is_a_path(directory: Any) -> None:
    with pytest.raises(OptionError, match=f"monitoring_dir={directory!r}: must be a path"):
        settings(directory, environ={})


def test_a_path_is_as_good_as_a_text(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "m", {"journal_dir": tmp_path / "j"}, {})
    assert (chosen.directory, chosen.journal_dir) == (str(tmp_path / "m"), str(tmp_path / "j"))


def test_the_directory_stays_where_it_was_meant(
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


def test_what_the_program_says_goes_before_the_environment() -> None:
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
def test_a_bad_variable_is_named_itself(variable: str, text: str) -> None:
    with pytest.raises(OptionError, match=f"{variable}='{text}': must be"):
        settings(environ={variable: text})


def test_an_empty_variable_is_none() -> None:
    assert settings(environ={"AQLTELEMETRY_INTERVAL_S": ""}).interval_s == 1.0


def test_samplers_and_sinks_of_ones_own_are_taken() -> None:
    sampler, sink = FakeSampler(), MemorySink()
    chosen = settings("x", {"samplers": [sampler], "sinks": (sink,)}, {})
    assert (list(chosen.samplers), list(chosen.sinks)) == ([sampler], [sink])


def test_a_program_run_as_another_user_takes_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AQLTELEMETRY_DIR", "/elsewhere")
    assert settings().directory == "/elsewhere"
    other = os.getuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: other)
    assert settings().directory == os.path.abspath(DEFAULT_DIRECTORY)


def test_a_relative_directory_stays_so_where_the_working_directory_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = tmp_path / "release"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    assert settings().directory == DEFAULT_DIRECTORY
    assert settings("/elsewhere").directory == "/elsewhere"
