"""By how much recording delays the graceful exit of a Gunicorn worker of each class.

A server with one worker answers some requests and is then stopped. The exit lasts from SIGTERM
to the end of the worker. Three cases take turns: without recording, with it, and with it and
90,000 blocks recorded just before. A delay is the difference from the case without recording in
the same round. All recorded observations must be in the files.

Some workers check once a second, from their start on, whether to stop. So all get SIGTERM at the
same time after that. In aiohttp's workers and Gunicorn's own for ASGI a recording starts before
the first of these checks, so that its start is in the delay, too.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from time import monotonic, sleep

from _machine import describe
from _table import show

ROUNDS = 9
REQUESTS = 20
BLOCKS = 90_000
BOOT_S = 60
# In seconds since the worker's start: when it has to record the blocks, and when to stop.
BLOCKS_AT_S = 0.4
STOP_AT_S = 0.6
CONFIG = """
import os, time
def post_worker_init(worker):
    os.environ["BEGAN_S"] = str(time.monotonic())
"""
RECORDING = """
from aqltelemetry.gunicorn import post_worker_init as wrap, worker_exit
mark = post_worker_init
def post_worker_init(worker):
    wrap(worker)
    mark(worker)
"""
BLOCK = """
import os
from aqltelemetry import time_block
def blocks(count):
    for _ in range(count):
        with time_block("block"):
            pass
    return f"{os.getpid()} {os.environ['BEGAN_S']}"
"""
FLASK = """
from flask import Flask
app = Flask(__name__)
@app.get("/<int:count>")
def handle(count):
    return blocks(count)
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def handle(request):
    return PlainTextResponse(blocks(request.path_params["count"]))
app = Starlette(routes=[Route("/{count:int}", handle)])
"""
AIOHTTP = """
from aiohttp import web
async def handle(request):
    return web.Response(text=blocks(int(request.match_info["count"])))
app = web.Application()
app.router.add_get("/{count}", handle)
"""
WORKERS = {
    "sync": FLASK,
    "gthread": FLASK,
    "gevent": FLASK,
    "aiohttp.GunicornWebWorker": AIOHTTP,
    "aiohttp.GunicornUVLoopWebWorker": AIOHTTP,
    "uvicorn_worker.UvicornWorker": STARLETTE,
    "asgi": STARLETTE,
}
VARIANTS: dict[str, tuple[str, int]] = {
    "without": (CONFIG, 0),
    "with": (CONFIG + RECORDING, 0),
    "blocks": (CONFIG + RECORDING, BLOCKS),
}


def get(port: int, count: int) -> tuple[int, float]:
    """Have blocks recorded; return the worker's PID and when it began, of the monotonic clock."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{count}", timeout=BOOT_S) as response:
        pid, began_s = response.read().split()
    return int(pid), float(began_s)


def exit_s(worker: str, config: str, count: int) -> float:
    """Run a server; return how long its worker took to end."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "app.py").write_text(BLOCK + WORKERS[worker])
        (Path(directory) / "gunicorn.conf.py").write_text(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port, fd = listening.getsockname()[1], listening.fileno()
            arguments = ("app:app", "--worker-class", worker, "--bind", f"fd://{fd}")
            command = (sys.executable, "-m", "gunicorn", *arguments, "--log-level", "critical")
            master = subprocess.Popen(command, cwd=directory, pass_fds=(fd,))
        try:
            watched = use(port, count)
        finally:
            started_s = monotonic()
            master.send_signal(signal.SIGTERM)
        select.select([watched], [], [])
        ended_s = monotonic()
        os.close(watched)
        master.wait()
        if config != CONFIG:
            check(Path(directory), REQUESTS + 1 + count)
    return ended_s - started_s


def use(port: int, count: int) -> int:
    """Send requests until it is time to stop; return a descriptor of the worker's process."""
    for _ in range(REQUESTS):
        pid, began_s = get(port, 0)
    watched = os.pidfd_open(pid)
    sleep(max(began_s + BLOCKS_AT_S - monotonic(), 0))
    get(port, count)
    sleep(max(began_s + STOP_AT_S - monotonic(), 0))
    return watched


def check(directory: Path, recorded: int) -> None:
    """Fail if less is in the files than was recorded."""
    files = (directory / "_monitoring").glob("duration.*.csv")
    rows = sum(path.read_bytes().count(b"\n") - 1 for path in files)
    if rows < recorded:
        msg = f"{rows} rows of {recorded}"
        raise RuntimeError(msg)


def spread(times_s: list[float]) -> str:
    """Show the median, and the least and the most."""
    ms = sorted(time_s * 1e3 for time_s in times_s)
    return f"{statistics.median(ms):.0f} ({ms[0]:.0f} to {ms[-1]:.0f})"


def main() -> None:
    """Show one table."""
    describe("gunicorn", "gevent", "aiohttp", "uvloop", "uvicorn", "uvicorn-worker")
    rows = []
    for worker in WORKERS:
        found: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(ROUNDS):
            for name, (config, count) in VARIANTS.items():
                found[name].append(exit_s(worker, config, count))
        delays = (
            [
                time_s - without_s
                for time_s, without_s in zip(found[name], found["without"], strict=True)
            ]
            for name in ("with", "blocks")
        )
        rows.append((worker, *(spread(times_s) for times_s in (found["without"], *delays))))
    columns = ("worker", "exit without", "delay with", f"delay with {BLOCKS:,} blocks")
    title = f"Exit of a worker, in ms: the median of {ROUNDS} (least to most)"
    show(title, dict.fromkeys(columns, ""), rows)


if __name__ == "__main__":
    main()
