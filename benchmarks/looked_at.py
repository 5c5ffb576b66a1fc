"""What it costs a busy service that somebody looks at its recording, live.

An aiohttp service on uvloop is recorded and kept busy by `wrk` (the Debian package), on the first
processor; the load comes from the second one. Slices of three seconds alternate: nobody looks, and
somebody looks. Requests per second are compared with the mean of the slices before and after;
medians over the rounds, with quartiles. A machine whose speed changes disturbs them. So the
requests that the service answers in a second of its own processor time are compared too. "nobody,
again" compares slices without a viewer in the same way: its difference from 1 is the error. The
processor time that the page's process and the client use is shown in seconds per second.

`serve`: `aqltelemetry serve` runs on the second processor, as an operator would run it, and a
client does what the page does in a browser: it waits for events, and asks for the report and the
strips when an event says that they have changed. `within the service`: `add_routes` shows the
page, the process that does the work has the processor of the service, and the client asks once a
second for events. The service and that process compete for one processor then, which is always
busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
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
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil
from _machine import describe
from _table import show

ROUNDS = 12
SECONDS = 3
CONNECTIONS = 16
WARM_UP_S = 5
HERE = Path(__file__).parent
_SERVE = (sys.executable, "-m", "aqltelemetry", "serve", "--port")


def serve_service() -> None:
    """Serve until SIGTERM, recorded, with the page at /_telemetry/."""
    import uvloop  # noqa: PLC0415 - only the service needs it
    from _services import aiohttp_app  # noqa: PLC0415 - as above
    from aiohttp import web  # noqa: PLC0415 - as above

    from aqltelemetry.aiohttp import add_routes  # noqa: PLC0415 - as above

    uvloop.install()
    app = aiohttp_app("aqltelemetry")
    add_routes(app)
    port = int(sys.argv[2])
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=lambda _: None)


async def look(url: str) -> None:
    """Do what the page does, until this process is interrupted."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        shown: dict[str, int] = {}
        while True:
            async with session.get(f"{url}events") as events:
                async for line in events.content:
                    if line.startswith(b"data: "):
                        newest = json.loads(line.removeprefix(b"data: "))
                        addresses = {"report": "report.json", "strips": "strips?bins=400"}
                        await asyncio.gather(
                            *(
                                _read(session, f"{url}{address}")
                                for name, address in addresses.items()
                                if newest[name] != shown.get(name)
                            )
                        )
                        shown = newest
            await asyncio.sleep(1)  # a page within a service ends its response after each event


async def _read(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(url) as response:
        await response.read()
        assert response.status == 200, url


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running(processor: int, *command: str, directory: str) -> Iterator[int]:
    """Run a command on a processor, give its PID, and interrupt it at the end."""
    process = subprocess.Popen(
        ("taskset", "--cpu-list", str(processor), *command),
        env={**os.environ, "AQLTELEMETRY_DIR": directory},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def wait(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60):
            return
        time.sleep(0.1)
    raise TimeoutError(url)


class Figures(NamedTuple):
    """What one run of wrk found."""

    per_s: float
    """Requests per second."""
    per_cpu_s: float
    """Requests per second of the service's processor time."""
    views_share: float
    """Processor time of the process that serves the page, per second."""
    client_share: float
    """Processor time of the client that asks for it, per second."""


def slices(url: str, service: int, views: int, viewer: list[str]) -> list[Figures]:
    """Return what was found while nobody looks and, in between, with a viewer."""
    found: list[Figures] = []
    for number in range(2 * ROUNDS + 1):
        with contextlib.ExitStack() as stack:
            client = None
            if number % 2 and viewer:
                client = stack.enter_context(running(1, *viewer, directory=""))
                time.sleep(WARM_UP_S)
            found.append(measure(url, service, views, client))
    return found


def measure(url: str, service: int, views: int | None, client: int | None) -> Figures:
    """Keep the service busy, from the second processor."""
    command = ("taskset", "--cpu-list", "1", "wrk", "--threads", "1")
    options = ("--connections", str(CONNECTIONS), "--duration", f"{SECONDS}s", url)
    children = [child.pid for child in psutil.Process(service).children()]
    groups = [[service], [pid for pid in (views, *children) if pid], [client] if client else []]
    before = [sum(map(cpu_s, pids)) for pids in groups]
    began_s = time.monotonic()
    done = subprocess.run((*command, *options), capture_output=True, text=True, check=True)
    passed_s = time.monotonic() - began_s
    used = [sum(map(cpu_s, pids)) - each for pids, each in zip(groups, before, strict=True)]
    requests = re.search(r"(\d+) requests in", done.stdout)
    per_s = re.search(r"/sec: +([\d.]+)", done.stdout)
    assert requests and per_s, done.stdout  # noqa: PT018 - the output says which
    per_cpu_s = int(requests[1]) / used[0]
    return Figures(float(per_s[1]), per_cpu_s, used[1] / passed_s, used[2] / passed_s)


def cpu_s(pid: int) -> float:
    """Return the processor time of a process; 0 if it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def ratios(found: list[Figures], at: int) -> tuple[float, str]:
    """Return the median of one of the figures, x those before and after, and the quartiles."""
    pairs = [
        2 * found[number][at] / (found[number - 1][at] + found[number + 1][at])
        for number in range(1, len(found), 2)
    ]
    low, middle, high = statistics.quantiles(pairs, n=4)
    return middle, f"{low:.3f}-{high:.3f}"


def main() -> None:
    """Print the table."""
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    describe("aiohttp", "uvloop")
    rows: list[list[str | float | None]] = []
    with tempfile.TemporaryDirectory() as directory:
        port, other = free_port(), free_port()
        url = f"http://127.0.0.1:{port}"
        service = (sys.executable, str(HERE / "looked_at.py"), "service", str(port))
        views = (*_SERVE, str(other), directory)
        with running(0, *service, directory=directory) as pid:
            wait(f"{url}/users/1")
            measure(f"{url}/users/1", pid, None, None)
            with running(1, *views, directory=directory) as views_pid:
                wait(f"http://127.0.0.1:{other}/")
                for name, page in (
                    ("nobody, again", ""),
                    ("`aqltelemetry serve`", f"http://127.0.0.1:{other}/"),
                    ("a page within the service", f"{url}/_telemetry/"),
                ):
                    look_at = [sys.executable, str(HERE / "looked_at.py"), "look", page]
                    found = slices(f"{url}/users/1", pid, views_pid, look_at if page else [])
                    per_s, _, of_views, of_client = (
                        statistics.median(column) for column in zip(*found[1::2], strict=True)
                    )
                    compared = *ratios(found, 0), *ratios(found, 1)
                    rows.append([name, per_s, *compared, of_views, of_client])
    columns = {"who looks": "", "requests/s": ",.0f"}
    for figure in ("requests/s", "requests per CPU second"):
        columns |= {f"{figure}, x nobody": ".3f", f"quartiles of {figure}": ""}
    columns |= {"CPU of the page's process, s/s": ".3f", "CPU of the client, s/s": ".3f"}
    show(f"Requests per second while somebody looks: {ROUNDS} rounds", columns, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["service"]:
        serve_service()
    elif sys.argv[1:2] == ["look"]:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(look(sys.argv[2]))
    else:
        main()
