"""What every test may use, and what every test must leave behind: nothing."""

from __future__ import annotations

import csv
import gc
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

import matrix
import ports
from aqltelemetry import Monitor, time_block
from aqltelemetry.journal.reader import read_segment
from aqltelemetry.recording import recorder
from aqltelemetry.system import extensions
from aqltelemetry.system.threads import WorkerThread
from browser import chromium
from fakes import FakeClock, memory_segments, recording
from postgres import postgres, postgres_server

__all__ = ("chromium", "postgres", "postgres_server")  # fixtures too
Rows = list[dict[str, str]]
_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def pytest_report_header() -> str:
    """Return whether tests without their Debian package fail, and which hot path is tested."""
    return (
        f"AQLTELEMETRY_CI={os.environ.get('AQLTELEMETRY_CI', '0')}, hot path: {extensions.in_use()}"
    )


def pytest_collection_finish() -> None:
    """Leave what was imported so far out of all garbage collections, which it makes slow."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Undo that: at the end Hypothesis counts references to what was imported."""
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was found of Gunicorn's workers."""
    matrix.show(terminalreporter)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape captured text that is not UTF-8, which pytest-xdist cannot send."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Check that each test ends with recording off and without a thread of the recording."""
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
        if name.startswith("AQLTELEMETRY_") and name not in (
            "AQLTELEMETRY_CI",
            extensions.VARIABLE,
        ):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Return a clock that the hot path reads instead of the monotonic one."""
    fake = FakeClock()
    recorder.set_clock(fake)
    yield fake
    recorder.set_clock(None)


@pytest.fixture
def recorded() -> Iterator[Callable[[], list[tuple[str, float]]]]:
    """Recording is on, into memory; return label and value of all that was recorded."""
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    recorder.install(session)

    def rows() -> list[tuple[str, float]]:
        batch = read_segment(segment.map[:], recovered=True, yield_gil=lambda: None).batch
        return [(c.series.label, value) for c in batch.columns for value in c.values]

    yield rows
    recorder.remove(session)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A monitoring directory that does not exist yet."""
    return tmp_path / "monitoring"


@pytest.fixture
async def five_requests(directory: Path) -> Path:
    """A monitoring directory with five durations of one route."""
    async with Monitor(directory, with_runtime=False):
        for _ in range(5):
            async with time_block("/a [GET]"):
                pass
    return directory


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


@pytest.fixture(scope="session")
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


@pytest.fixture
def run_program() -> Callable[[str], None]:
    """Run a program in a process of its own, in which warnings are errors; fail if it does."""

    def run(program: str) -> None:
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture
def namespaces() -> Callable[..., list[str]]:
    """Return a command that runs another as the first process of a PID namespace, or skip."""
    if subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make PID namespaces")
    return lambda *command: [*_NAMESPACE, *command]


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a port that nobody listens on."""
    return ports.free_port
