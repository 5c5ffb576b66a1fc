"""What recording every request costs a busy service, compared with other packages.

aiohttp runs on uvloop, FastAPI under uvicorn (uvloop, httptools), and Flask under Gunicorn's
gthread with four threads; each has one worker. Each contender is a service in a process of its
own, and all processes live throughout, on one processor. `wrk` (the Debian package) keeps a
contender busy from another processor for a second at a time, in rounds of random order, and a
bare service before and after it. Requests per second and p99 are medians over the rounds of the
ratio to the mean of these two, with quartiles. All samplers are on.

A machine whose speed changes from second to second disturbs these figures. So each contender is
also kept busy together with the bare service, on the same processor. The processor time of all
its threads for a request says how many requests it answers in a second of processor time; work
that a contender does once a second counts twice there. The contender called bare is a second
bare service: its difference from the first is the error.

A "pure host" is the host in Python, with all else compiled. An extension of a host stays only if it
saves 0.02 of the bare service's requests per CPU second.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from _machine import describe
from _table import show

PEERS = ("prometheus_client", "OpenTelemetry")
HOSTS = {
    "aiohttp": (
        *("bare", "aqltelemetry", "aqltelemetry, pure host"),
        *("aqltelemetry, without ttfb", "an empty middleware"),
        *PEERS,
    ),
    "FastAPI": ("bare", "aqltelemetry", "aqltelemetry, pure host", *PEERS),
    "Flask": ("bare", "aqltelemetry", "aqltelemetry, pure host", *PEERS),
}
ROUNDS = 10
SECONDS = 1
AT_ONCE_SECONDS = 2
PAUSE_S = 0.2
CONNECTIONS = 16
DRAWN = "requests per CPU second, x bare"
HERE = Path(__file__).parent
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class Figures(NamedTuple):
    """What one run of wrk found: requests per second, p99 in seconds, CPU seconds per request."""

    per_s: float
    p99_s: float
    cpu_s: float


class Service:
    """A contender in a process of its own, on the first processor."""

    def __init__(self, host: str, contender: str, directory: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/users/42"
        command = [sys.executable, str(HERE / "_services.py"), host, contender, str(port)]
        if host == "Flask":
            command = [
                *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"),
                *("--workers", "1", "--threads", "4", "--worker-class", "gthread"),
                *("--chdir", str(HERE), "--log-level", "warning"),
                f"_services:flask_app({contender!r})",
            ]
        self._process = subprocess.Popen(
            ("taskset", "--cpu-list", "0", *command),
            env={**os.environ, "AQLTELEMETRY_DIR": directory},
        )

    def measure(self, seconds: int) -> Figures:
        """Keep it busy, from the second processor."""
        time.sleep(PAUSE_S)  # for what was left to write
        self.begin(seconds)
        return self.end()

    def begin(self, seconds: int) -> None:
        """Begin to keep it busy."""
        self._before_ns = self._cpu_ns()
        self._load = subprocess.Popen(
            (
                *("taskset", "--cpu-list", "1", "wrk", "--latency", "--threads", "1"),
                *("--connections", str(CONNECTIONS), "--duration", f"{seconds}s", self._url),
            ),
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> Figures:
        """Return what was found once that is over."""
        found, _ = self._load.communicate()
        assert self._load.returncode == 0, found
        assert "Socket errors" not in found, found
        assert "Non-2xx" not in found, found
        requests, per_s = (
            re.search(r"(\d+) requests in", found),
            re.search(r"/sec: +([\d.]+)", found),
        )
        p99 = re.search(r"99% +([\d.]+)(us|ms|s)", found)
        assert requests and per_s and p99, found  # noqa: PT018 - the output says which
        cpu_s = (self._cpu_ns() - self._before_ns) / 1e9 / int(requests[1])
        return Figures(float(per_s[1]), float(p99[1]) * _UNITS[p99[2]], cpu_s)

    def wait(self) -> None:
        """Wait until it answers."""
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(self._url, timeout=60) as response:
                assert response.read() == b"hello 42\n"
                return
            time.sleep(0.1)
        raise TimeoutError(self._url)

    def stop(self) -> None:
        """Stop it, as its operator would."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def _cpu_ns(self) -> int:
        """Return the processor time of all its threads, and of its workers'."""
        pids = [self._process.pid]
        for pid in pids:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += [int(child) for child in children.read_text().split()]
        threads = (path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(path.read_text().split()[0]) for path in threads)


class Slice(NamedTuple):
    """A contender's figures, and those of the bare service just before and after."""

    figures: Figures
    before: Figures
    after: Figures

    def ratio(self, at: int) -> float:
        """Return one of the figures over the bare service's."""
        return 2 * self.figures[at] / (self.before[at] + self.after[at])


def measure(host: str) -> tuple[dict[str, list[Slice]], dict[str, list[float]]]:
    """Return what was found in each round by contender: one by one, and of pairs at once.

    The latter is the bare service's processor time for a request over the contender's.
    """
    with tempfile.TemporaryDirectory() as root:
        bare = Service(host, "bare", f"{root}/bare")
        services = {
            name: Service(host, name, f"{root}/{number}") for number, name in enumerate(HOSTS[host])
        }
        every = (bare, *services.values())
        try:
            for service in every:
                service.wait()
                service.measure(SECONDS)
            return one_by_one(bare, services), at_once(bare, services)
        finally:
            for service in every:
                service.stop()


def one_by_one(bare: Service, services: dict[str, Service]) -> dict[str, list[Slice]]:
    """Keep the services busy in turn, and the bare one before and after each."""
    found: dict[str, list[Slice]] = {name: [] for name in services}
    before = bare.measure(SECONDS)
    for _ in range(ROUNDS):
        for name in random.sample(list(services), len(services)):
            figures = services[name].measure(SECONDS)
            after = bare.measure(SECONDS)
            found[name].append(Slice(figures, before, after))
            before = after
    return found


def at_once(bare: Service, services: dict[str, Service]) -> dict[str, list[float]]:
    """Keep each service and the bare one busy at the same time."""
    found: dict[str, list[float]] = {name: [] for name in services}
    for number in range(ROUNDS):
        for name in random.sample(list(services), len(services)):
            # Whichever begins first has the better of it by some 2 %, so they take turns.
            pair = (bare, services[name])
            time.sleep(PAUSE_S)
            for service in pair[:: (-1) ** number]:
                service.begin(AT_ONCE_SECONDS)
            ours, theirs = (service.end() for service in pair[::-1])
            found[name].append(theirs.cpu_s / ours.cpu_s)
    return found


def quartiles(ratios: Iterable[float]) -> tuple[float, str]:
    """Return the median of some ratios, and their quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, f"{low:.2f}-{high:.2f}"


def main() -> None:
    """Print a table for each host."""
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    if (os.cpu_count() or 1) < 2:
        sys.exit("two processors are needed: one for the service, one for wrk")
    describe(
        *("aiohttp", "uvloop", "fastapi", "uvicorn", "httptools", "flask", "gunicorn"),
        *("prometheus-client", "prometheus-fastapi-instrumentator", "prometheus-flask-exporter"),
        *("opentelemetry-sdk", "opentelemetry-instrumentation"),
    )
    for host in sys.argv[1:] or HOSTS:
        slices, pairs = measure(host)
        rows: list[list[str | float | None]] = []
        for name, each in slices.items():
            row: list[str | float | None] = [
                name,
                statistics.median(one.figures.per_s for one in each),
            ]
            for at in range(2):
                row += quartiles(one.ratio(at) for one in each)
            row += quartiles(pairs[name])
            rows.append(row)
        columns = {"": "", "requests/s": ",.0f"}
        for figure in ("requests/s, x bare", "p99, x bare", DRAWN):
            columns |= {figure: ".3f", f"quartiles of {figure.partition(',')[0]}": ""}
        show(f"{host}: {ROUNDS} rounds", columns, rows, drawn=DRAWN)


if __name__ == "__main__":
    main()
