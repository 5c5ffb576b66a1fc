"""A short run of `benchmarks/stalls.py`: the cause is right where the machine allows to see it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from twinned import compiled_twin

pytestmark = pytest.mark.system
_BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "stalls.py"
_KINDS = ("time sleep", "regular expression", "socket receive without timeout")


def _is_ambiguous(found: dict[str, Any]) -> bool:
    """Return whether the thread had no processor for much of the stall."""
    delay_s: float = found.get("delay_s") or 0
    return delay_s > 0.2 * float(found.get("length_s", 0))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "gthread"])
def test_planted_stalls_have_their_cause_and_line(loop: str, tmp_path: Path) -> None:
    compiled_twin("stalls._watchdog")
    command = [sys.executable, str(_BENCHMARK), "--run", loop, "--repetitions", "2"]
    for kind in _KINDS:
        command += ["--kinds", kind]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    by_kind: dict[str, list[str]] = defaultdict(list)
    for each in found:
        by_kind[each["kind"]].append(each["result"])
    assert [*by_kind] == [*_KINDS]
    assert [each for each in found if each["result"] == "wrong" and not _is_ambiguous(each)] == []
    # A line is wrong only if the probe got no processor before the stall ended.
    assert [each for each in found if each["line"] is False and not _is_ambiguous(each)] == []
