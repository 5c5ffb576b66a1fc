"""That the benchmarks' report is what they found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent.parent / "benchmarks"
_RENDER = """
import json, pathlib, _collect
print(_collect.render(json.loads(_collect.RESULTS.read_text())), end="")
"""


def test_the_report_is_made_of_the_results() -> None:
    rendered = subprocess.run(
        (sys.executable, "-c", _RENDER), cwd=HERE, capture_output=True, text=True, check=True
    ).stdout
    assert rendered == (HERE / "README.md").read_text()


def test_each_result_is_of_a_benchmark_that_there_is() -> None:
    report = (HERE / "README.md").read_text()
    titles = [line.removeprefix("## ") for line in report.splitlines() if line.startswith("## ")]
    assert titles
    assert all((HERE / f"{title}.py").exists() for title in titles)


def test_a_workload_of_the_comparison_prints_its_nanoseconds(tmp_path: Path) -> None:
    command = [sys.executable, "_workloads.py", "with time_block", str(tmp_path)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 1e9
