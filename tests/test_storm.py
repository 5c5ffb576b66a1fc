"""Processes and their recoverers are killed at random; a witness outside counts the losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

_STORM = Path(__file__).parent.parent / "benchmarks" / "storm.py"
_KILLS = int(os.environ.get("KILLS", "20"))


@pytest.mark.timeout(60 + _KILLS)
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_row_01_02_04_kills_at_random_lose_and_duplicate_nothing(
    tmp_path: Path, place: str, threads: int, record_property: Callable[[str, object], None]
) -> None:
    """KILLS=1000 for the long run."""
    base = tmp_path if place == "disk" else Path("/dev/shm")
    command = [sys.executable, str(_STORM), "--kills", str(_KILLS), "--threads", str(threads)]
    done = subprocess.run([*command, str(base)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["kills"] >= _KILLS
    assert result["recoverer_kills"]
    assert result["accepted"] == result["rows"] + result["dropped"] > 0
    faults = ("lost", "duplicated", "damaged", "left_over", "hangs")
    assert [result[name] for name in faults] == [0] * len(faults)
    assert result["most_extra"] <= 1
    record_property("runs", result["kills"])
    record_property(
        "got",
        f"{result['file_system']}, {threads} threads: {result['accepted']:,} observations, "
        f"{result['recoverer_kills']} recoverers killed, at most {result['most_extra']} "
        "extra per thread",
    )
