"""A short run of `benchmarks/stall_kills.py`: nothing false is shown after a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
_BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "stall_kills.py"


def test_what_is_shown_of_killed_processes_has_been(tmp_path: Path) -> None:
    command = [sys.executable, str(_BENCHMARK), "--kills", "2", "--processes", "1"]
    command += ["--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert cells[0] == "2"
    assert int(cells[1]) > 0
