"""The observations in the journal are counted, and shown where figures lack them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.audit.unpublished import Unpublished, count, describe
from aqltelemetry.commands.cli import main

_PROGRAM = """
import os, sys, signal
from aqltelemetry import sync, record
sync.start(sys.argv[1], with_runtime=False)
for number in range(int(sys.argv[2])):
    record("own", number)
print("recorded", flush=True)
if sys.argv[3] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def _start(directory: Path, number: int, end: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(directory), str(number), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "recorded\n"
    return process


@pytest.fixture
def crashed(directory: Path) -> Path:
    """A recording of a process that published 10 rows, and of one killed with 236 more."""
    _start(directory, 10, "stopped").communicate()
    with _start(directory, 236, "killed") as process:
        process.communicate()
    return directory


def test_a_report_counts_the_unpublished_observations_of_a_killed_process(crashed: Path) -> None:
    assert count(str(crashed)) == Unpublished(of_killed=236, killed=1)
    line = (
        "not yet published, but included: 236 observations of 1 killed process "
        f"(to publish: aqltelemetry recover {crashed})\n"
    )
    assert line in _run("report", str(crashed)).output
    doctor = _run("doctor", str(crashed))
    assert doctor.exit_code == 1
    assert f"! unpublished  {describe(count(str(crashed)), str(crashed))}, in the" in doctor.output
    assert _run("recover", str(crashed)).exit_code == 0
    after = _run("report", str(crashed)).output
    assert "not yet published" not in after
    assert "246" in after
    assert "unpublished" not in _run("doctor", str(crashed)).output


def test_a_report_counts_the_unpublished_observations_of_running_processes(directory: Path) -> None:
    process = _start(directory, 962, "running")
    try:
        result = _run("report", str(directory))
        assert result.exit_code == 0
        assert (
            "not yet published, but included: 962 observations of 1 running process (published "
            "within about a minute)"
        ) in result.output
        doctor = _run("doctor", str(directory))
        assert doctor.exit_code == 0, doctor.output
        assert "962 observations of 1 running process" in doctor.output
    finally:
        process.communicate()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Unpublished(), ""),
        (Unpublished(1, 1), "1 observation of 1 killed process (to publish: aqltelemetry recover"),
        (
            Unpublished(1000, 2, 1, 3),
            "1,000 observations of 2 killed processes (to publish: aqltelemetry recover 'a b') ",
        ),
    ],
)
def test_the_description_is_one_line(found: Unpublished, text: str) -> None:
    assert describe(found, "a b").startswith(text)
    assert "\n" not in describe(found, "a b")


def test_the_description_ends_with_the_running_processes() -> None:
    text = describe(Unpublished(1000, 2, 1, 3), "a b")
    assert text.endswith(
        " and 1 observation of 3 running processes (published within about a minute)"
    )
