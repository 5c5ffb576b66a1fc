"""A real Prometheus scrapes `aqltelemetry serve --metrics`, and a service of its own."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aqltelemetry import sync
from live_page import serving
from monitoring import prometheus
from pages import get
from servers import wait_until

pytestmark = pytest.mark.system
# Forked, so that each has not to import everything.
_WORKERS = """
import os, signal, sys
from aqltelemetry import sync

def work(number, is_killed):
    sync.start(sys.argv[1], with_event_loop=False)
    for at in range(number):
        with sync.time_block("/orders/{id} [GET]"):
            pass
        if at % 10 == 0:
            with sync.time_block("/orders/{id} [GET] 5xx"):
                pass
    if is_killed:
        os.kill(os.getpid(), signal.SIGKILL)
    sync.stop()

for number, is_killed in ((300, False), (200, True), (100, False)):
    if os.fork() == 0:
        work(number, is_killed)
        os._exit(0)
assert sorted(os.wait()[1] for _ in range(3)) == [0, 0, signal.SIGKILL]
"""
_SERVICE = """
import sys
from aiohttp import web
from aqltelemetry.aiohttp import add_metrics_route, setup
async def hello(request):
    return web.Response(text="hello")
app = web.Application()
app.router.add_get("/users/{user}", hello)
setup(app, sys.argv[1])
add_metrics_route(app, buckets=(0.5, 1.0))
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
"""


def _scraping(address: str) -> dict[str, object]:
    job = {"job_name": "service", "static_configs": [{"targets": [urlsplit(address).netloc]}]}
    return {"global": {"scrape_interval": "250ms"}, "scrape_configs": [job]}


def _recorded(directory: Path) -> Counter[str]:
    """Return how many rows of each label are in the files."""
    found: Counter[str] = Counter()
    for path in directory.glob("duration.*.csv"):
        with path.open(newline="") as file:
            found.update(row["Label"] for row in csv.DictReader(file))
    return found


def test_prometheus_has_the_totals_of_the_files(
    directory: Path,
    tmp_path: Path,
    free_port: Callable[[], int],
    debian_package: Callable[[str, str], Path],
) -> None:
    sync.start(directory)  # it also recovers what the killed worker has left
    metric = "sum by (route, method) (aqltelemetry_request_duration_seconds_count)"
    errors = "sum by (route, status) (aqltelemetry_request_errors_total)"
    starts = "aqltelemetry_worker_starts_total"
    with (
        serving(directory, "--metrics", "--metrics-buckets", "0.1,1") as url,
        prometheus(debian_package, free_port(), tmp_path / "prometheus", _scraping(url)) as engine,
    ):
        engine.wait_for("sum(aqltelemetry_workers)", {(): 1})
        subprocess.run([sys.executable, "-c", _WORKERS, str(directory)], check=True, timeout=100)
        engine.wait_for(metric, {("GET", "/orders/{id}"): 600})
        engine.wait_for(errors, {("/orders/{id}", "5xx"): 60})
        engine.wait_for(f"sum({starts})", {(): 3})
        engine.wait_for(
            "sum by (end) (aqltelemetry_worker_ends_total)", {("stopped",): 2, ("killed",): 1}
        )
        buckets = "count by (le) (aqltelemetry_request_duration_seconds_bucket)"
        engine.wait_for(buckets, {("0.1",): 1, ("1.0",): 1, ("+Inf",): 1})
        assert engine.get("/api/v1/targets")["data"]["activeTargets"][0]["lastError"] == ""
        sync.stop()
        assert _recorded(directory) == {"/orders/{id} [GET]": 600, "/orders/{id} [GET] 5xx": 60}


@contextmanager
def _service(directory: Path, port: int) -> Iterator[str]:
    """Run a service that gives its metrics; yield its URL."""
    command = [sys.executable, "-c", _SERVICE, str(directory), str(port)]
    with subprocess.Popen(command) as service:
        try:
            get(f"http://127.0.0.1:{port}/users/0", service)
            yield f"http://127.0.0.1:{port}"
        finally:
            service.send_signal(signal.SIGINT)
        assert service.wait(60) == 0


def _counted(url: str) -> int:
    """Return how many requests for users the metrics of a service count."""
    text = get(f"{url}/metrics").decode()
    found = re.search(r'seconds_count\{method="GET",route="/users/\{user\}"\} (\S+)', text)
    return 0 if found is None else int(float(found[1]))


def test_a_service_gives_its_metrics_over_restarts_and_nothing_is_left_when_it_has_ended(
    directory: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tempfile.mkdtemp(prefix="views")  # the path of a socket has a limit
    monkeypatch.setenv("TMPDIR", short)
    with _service(directory, free_port()) as second:
        with _service(directory, free_port()) as first:
            assert _counted(first) == 0
            for number in range(5):
                get(f"{first}/users/{number}")
            assert _counted(second) == 5
        get(f"{second}/users/1")
        # The process that counts was started by the service that has ended.
        assert _counted(second) == 6
        assert b'le="0.5"' in get(f"{second}/metrics")
    wait_until(lambda: not list(Path(short).glob("*/metrics-*[0-9a-f]")), "the process has ended")
