"""Compares this checkout with another revision: `compare.py REVISION [--rounds N]`.

Both are built with their compiled modules. Each workload is a process of its own; the two
revisions take turns, and whichever begins changes with each round. A ratio above 1 says that
this checkout takes longer. What changes between two builds of one revision is the error of the
measurement: compare a revision with itself to see it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from _machine import describe
from _table import show
from _workloads import WORKLOADS

ROOT = Path(__file__).parent.parent
_BUILD = "from setuptools import setup; setup()"


def build(revision: str, into: Path) -> None:
    """Export a revision and build its compiled modules; "" stands for the files of the checkout."""
    into.mkdir()
    tree = (
        revision
        or subprocess.run(
            ["git", "stash", "create"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()
    )
    archive = into / "tree.tar"
    subprocess.run(["git", "archive", "-o", archive, tree or "HEAD"], cwd=ROOT, check=True)
    with tarfile.open(archive) as files:
        files.extractall(into, filter="data")
    command = [sys.executable, "-c", _BUILD, "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=into, check=True, capture_output=True)


def measure(workload: str, tree: Path, scratch: Path) -> float:
    """Run a workload on a tree, and return its figure in nanoseconds."""
    program = str(Path(__file__).parent / "_workloads.py")
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        done = subprocess.run(
            [sys.executable, program, workload, directory],
            env=os.environ | {"PYTHONPATH": str(tree)},
            cwd=tree,
            check=True,
            capture_output=True,
            text=True,
        )
    return float(done.stdout)


def main() -> None:
    """Compare, and print one row for each workload."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("revision", help="what to compare with, as git names it")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", action="append", choices=[*WORKLOADS], help="one workload")
    chosen = parser.parse_args()
    describe()
    rows: list[list[str | float | None]] = []
    with tempfile.TemporaryDirectory(prefix="aqltelemetry-compare-") as name:
        scratch = Path(name)
        old, new = scratch / "old", scratch / "new"
        build(chosen.revision, old)
        build("", new)
        for workload in chosen.only or WORKLOADS:
            measure(workload, new, scratch)  # what is made once, and compiled to bytecode
            measure(workload, old, scratch)
            ratios, before, after = [], [], []
            for number in range(chosen.rounds):
                trees = (old, new) if number % 2 else (new, old)
                taken = {tree: measure(workload, tree, scratch) for tree in trees}
                ratios.append(taken[new] / taken[old])
                before.append(taken[old])
                after.append(taken[new])
            low, middle, high = statistics.quantiles(ratios, n=4)
            medians = (statistics.median(before), statistics.median(after))
            rows.append([workload, *medians, middle, low, high])
            print(workload, f"{middle:.3f}", file=sys.stderr, flush=True)
    show(
        f"This checkout compared with {chosen.revision}, {chosen.rounds} rounds",
        {
            "Workload": "",
            "ns before": ",.0f",
            "ns now": ",.0f",
            "ratio": ".3f",
            "lower quartile": ".3f",
            "upper quartile": ".3f",
        },
        rows,
    )


if __name__ == "__main__":
    main()
