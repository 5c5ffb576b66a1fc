from __future__ import annotations

from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from aqltelemetry.settings import Options, settings
from aqltelemetry.stalls.built_in import stall_samplers


@pytest.mark.parametrize(
    ("options", "is_on"),
    [
        ({}, True),
        ({"with_stalls": False}, False),
        ({"with_runtime": False}, False),
        ({"stall_threshold_s": 0}, False),
    ],
)
def test_stalls_are_recorded_unless_an_option_switches_them_off(
    tmp_path: Path, options: Options, is_on: bool
) -> None:
    chosen = settings(tmp_path, options)
    with ExitStack() as resources:
        found = [*stall_samplers(chosen, "a" * 16, create_autospec(Executor), resources)]
    assert [each.prefix for each in found] == ["stall"] * is_on
