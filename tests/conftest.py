"""What every test may use, and what every test must leave behind: nothing."""

from __future__ import annotations

import csv
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import matrix
from aqltelemetry import recorder
from aqltelemetry.threads import WorkerThread

Rows = list[dict[str, str]]


def pytest_report_header() -> str:
    """Say whether tests may skip for want of a Debian package."""
    return f"AQLTELEMETRY_CI={os.environ.get('AQLTELEMETRY_CI', '0')}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was found of Gunicorn's workers."""
    matrix.show(terminalreporter)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Each test ends with recording off and without a thread of ours."""
    yield
    assert not recorder.is_on()
    ours = [each for each in threading.enumerate() if each.name.startswith("aqltelemetry")]
    for thread in ours:
        thread.join(10)
    assert not any(thread.is_alive() for thread in ours)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the environment that it happens to run in."""
    for name in list(os.environ):
        if name.startswith("AQLTELEMETRY_") and name != "AQLTELEMETRY_CI":
            monkeypatch.delenv(name)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A monitoring directory that does not exist yet."""
    return tmp_path / "monitoring"


@pytest.fixture
def thread() -> Iterator[WorkerThread]:
    """A worker thread."""
    thread = WorkerThread("aqltelemetry-test")
    yield thread
    thread.shutdown()


@pytest.fixture
def rows(directory: Path) -> Callable[[str], Rows]:
    """Read all rows of the files of a prefix; "*": of all that hold observations."""

    def read(prefix: str = "duration") -> Rows:
        found: Rows = []
        for path in sorted(directory.glob(f"{prefix}.*.csv")):
            if prefix == "*" and path.name.startswith("account."):
                continue
            with path.open(newline="", encoding="utf-8") as file:
                found.extend(csv.DictReader(file))
        return found

    return read


@pytest.fixture
def counts(rows: Callable[[str], Rows]) -> Callable[[str], Counter[str]]:
    """Count the rows of a prefix by label."""

    def count(prefix: str = "duration") -> Counter[str]:
        return Counter(row["Label"] for row in rows(prefix))

    return count


@pytest.fixture
def debian_package() -> Callable[[str, str], Path]:
    """Return a program of a Debian package, or skip; where CI installs it, fail."""

    def find(package: str, pattern: str) -> Path:
        found = sorted(Path("/").glob(pattern.lstrip("/")))
        if found:
            return found[-1]
        reason = f"needs the Debian package {package}"
        if os.environ.get("AQLTELEMETRY_CI") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    return find
