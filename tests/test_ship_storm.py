"""The shipper is killed at random while its store and the network fail; rows are compared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
_STORM = Path(__file__).parent.parent / "benchmarks" / "ship_storm.py"


@pytest.mark.parametrize(
    ("store", "kills"), [("postgresql", 10), ("clickhouse", 4), ("parquet", 3)]
)
def test_kills_of_the_shipper_lose_and_repeat_nothing(
    store: str, kills: int, debian_package: Callable[[str, str], Path]
) -> None:
    if store == "postgresql":
        debian_package("postgresql", "/usr/lib/postgresql/*/bin/initdb")
    command = [sys.executable, str(_STORM), "--kills", str(kills), "--to", store]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["kills"] == kills
    assert result["rows"] > 0
    assert [result[name] for name in ("lost", "repeated_or_changed", "set_aside")] == [0, 0, 0]
