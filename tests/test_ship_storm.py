"""The shipper is killed while its store and the network fail; what is there is compared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system
_STORM = Path(__file__).parent.parent / "benchmarks" / "ship_storm.py"
_PACKAGES: Mapping[str, tuple[str, str]] = {
    "postgresql": ("postgresql", "/usr/lib/postgresql/*/bin/initdb"),
    "remote-write": ("victoria-metrics", "usr/bin/victoria-metrics"),
}


@pytest.fixture
def storm(debian_package: Callable[[str, str], Path]) -> Callable[..., Mapping[str, Any]]:
    """Run a storm against a store, and return its result."""

    def run(store: str, *options: str) -> Mapping[str, Any]:
        if store in _PACKAGES:
            debian_package(*_PACKAGES[store])
        command = [sys.executable, str(_STORM), "--seed", "1", "--to", store, *options]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stdout + done.stderr
        result: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    return run


@pytest.mark.parametrize(
    ("store", "kills"), [("postgresql", 6), ("clickhouse", 4), ("parquet", 4), ("remote-write", 3)]
)
def test_kills_of_the_shipper_lose_and_repeat_nothing(
    store: str, kills: int, storm: Callable[..., Mapping[str, Any]]
) -> None:
    result = storm(store, "--kills", str(kills))
    assert result["kills"] == kills
    assert result["rows_or_samples"] > 0
    assert [result[name] for name in ("lost", "repeated_or_changed", "set_aside")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("plant", "aim", "finding"),
    [
        ("store-ledger-ignored", "commit", "repeated_or_changed"),
        ("noted-too-early", "before", "lost"),
    ],
)
def test_a_storm_finds_a_planted_defect(
    plant: str, aim: str, finding: str, storm: Callable[..., Mapping[str, Any]]
) -> None:
    options = ("--kills", "3", "--calm", "--aim", aim, "--plant", plant)
    assert storm("clickhouse", *options)[finding] > 0
