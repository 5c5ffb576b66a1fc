"""The files of a small simulated fleet arrive in a real store, each row once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
_FLEET = Path(__file__).parent.parent / "benchmarks" / "fleet.py"


def test_the_rows_of_several_hosts_arrive_in_one_store() -> None:
    command = [sys.executable, str(_FLEET), "--hosts", "2", "--minutes", "1", "--to", "clickhouse"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["writers"] == 16
    assert result["published"] == result["arrived"] > 5_000
    assert result["difference_of_the_sums_ns"] == 0
