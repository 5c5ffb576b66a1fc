"""Real servers of Prometheus and VictoriaMetrics, for tests; both answer Prometheus's queries."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Find = Callable[[str, str], Path]
_TIMEOUT_S = 60


class Engine:
    """A running server.

    Args:
        url: Its address, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of a path."""
        address = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:
            return json.load(response)

    def query(self, expression: str, at_s: float | None = None) -> dict[tuple[str, ...], float]:
        """Return the result of a query by the values of its labels, in the order of their names."""
        moment = {} if at_s is None else {"time": at_s}
        answer = self.get("/api/v1/query", query=expression, nocache=1, **moment)
        return {
            tuple(value for _, value in sorted(row["metric"].items())): float(row["value"][1])
            for row in answer["data"]["result"]
        }

    def wait_for(
        self, expression: str, wanted: Mapping[tuple[str, ...], float], at_s: float | None = None
    ) -> None:
        """Wait until a query has a result; fail after a minute with the last one."""
        deadline = time.monotonic() + _TIMEOUT_S
        while (found := self.query(expression, at_s)) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


@contextmanager
def prometheus(
    find: Find, port: int, home: Path, config: Mapping[str, Any] | None = None
) -> Iterator[Engine]:
    """Run a Prometheus that takes remote write, in an empty directory."""
    program = find("prometheus", "usr/bin/prometheus")
    home.mkdir()
    (home / "prometheus.yml").write_text(json.dumps(config or {}))
    command = [
        str(program),
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]
    with _running(command, home, f"http://127.0.0.1:{port}", "/-/ready") as engine:
        yield engine


@contextmanager
def victoria_metrics(
    find: Find, port: int, home: Path, arguments: Sequence[str] = ()
) -> Iterator[Engine]:
    """Run a VictoriaMetrics in a directory, which has nothing or what an earlier one has left."""
    program = find("victoria-metrics", "usr/bin/victoria-metrics")
    home.mkdir(exist_ok=True)
    command = [
        str(program),
        f"-storageDataPath={home}/data",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-search.latencyOffset=0s",
        "-loggerLevel=ERROR",
        *arguments,
    ]
    with _running(command, home, f"http://127.0.0.1:{port}", "/health") as engine:
        yield engine


@contextmanager
def _running(command: Sequence[str], home: Path, url: str, health: str) -> Iterator[Engine]:
    log = home / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as it:
        try:
            deadline = time.monotonic() + _TIMEOUT_S
            while not _answers(url + health):
                assert it.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield Engine(url)
        finally:
            it.terminate()
            it.wait(_TIMEOUT_S)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S):
            return True
    except OSError:
        return False
