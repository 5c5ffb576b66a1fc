from __future__ import annotations

import inspect

import pytest

from aqltelemetry import errors

_ALL = [each for _, each in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", _ALL)
def test_every_error_is_a_telemetry_error(error: type[Exception]) -> None:
    assert issubclass(error, errors.TelemetryError)


def test_a_bad_option_is_a_value_error_that_names_value_and_rule() -> None:
    error = errors.OptionError("interval_s", -1, "must be positive")
    assert isinstance(error, ValueError)
    assert (error.option, error.value, error.rule) == ("interval_s", -1, "must be positive")
    assert str(error) == "interval_s=-1: must be positive"


def test_an_unusable_directory_is_an_os_error_that_names_it() -> None:
    error = errors.MonitoringDirectoryError("/x", "must be writable")
    assert isinstance(error, OSError)
    assert (error.directory, error.rule) == ("/x", "must be writable")
    assert "'/x'" in str(error)


def test_the_error_of_a_second_start_names_the_first_directory() -> None:
    error = errors.AlreadyRunningError("/data")
    assert error.directory == "/data"
    assert "/data" in str(error)
