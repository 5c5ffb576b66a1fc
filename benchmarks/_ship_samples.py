"""VictoriaMetrics for `ship_storm.py`: it has samples that follow from the rows, not the rows."""

from __future__ import annotations

import json
import math
import re
import subprocess
import urllib.request
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from _ship_engines import free_port, in_new_directory

from monitoring import victoria_metrics

_TIMEOUT_S = 60
_ACCURACY = 1e-9
Samples = dict[tuple[str, int], list[float]]
"""The values at each time, in milliseconds, of each time series, which its labels as JSON name."""


class Compared(NamedTuple):
    """How many samples there must be, are missing, and are there twice or with another value."""

    samples: int
    lost: int
    changed: int


class VictoriaMetrics:
    """VictoriaMetrics of this machine's Debian package, which drops repeated samples."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.port = free_port()
        self._home = home
        self._running = ExitStack()
        self.name = f"VictoriaMetrics {_version()} by remote write"

    def url(self, port: int | None) -> str:
        """Return the URL by TCP."""
        return f"remote-write+http://127.0.0.1:{port}/api/v1/write"

    def crash(self) -> None:
        """Stop it: if it is killed, it loses samples of its last seconds that it has confirmed."""
        self._running.close()

    def restart(self) -> None:
        """Start it, and wait until it answers."""
        arguments = ["-dedup.minScrapeInterval=1ms"]
        server = victoria_metrics(_program, self.port, self._home, arguments)
        self._running.enter_context(server)

    def has(self, *_: object) -> None:
        """Return None: it does not know files."""

    def parts(self) -> frozenset[str]:
        """Return no part."""
        return frozenset()

    def samples(self) -> Samples:
        """Return all samples."""
        self._get("/internal/force_flush")
        query = urlencode({"match[]": '{__name__!=""}', "start": "0"})
        found: Samples = {}
        for line in self._get(f"/api/v1/export?{query}").splitlines():
            series = json.loads(line)
            labels = json.dumps(series["metric"], sort_keys=True)
            for at_ms, value in zip(series["timestamps"], series["values"], strict=True):
                found.setdefault((labels, at_ms), []).append(value)
        return found

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}{path}", timeout=_TIMEOUT_S
        ) as response:
            return bytes(response.read())


def running() -> AbstractContextManager[VictoriaMetrics]:
    """Run VictoriaMetrics in a new directory."""
    return in_new_directory(VictoriaMetrics)


def compare(wanted: Samples, found: Samples) -> Compared:
    """Compare the samples of two stores; sums may differ by less than a billionth."""
    changed = sum(
        len(values) > 1 or not math.isclose(values[0], wanted[key][0], rel_tol=_ACCURACY)
        for key, values in found.items()
        if key in wanted
    )
    return Compared(
        len(wanted), len(wanted.keys() - found.keys()), changed + len(found.keys() - wanted.keys())
    )


def _version() -> str:
    """Return the version of the package; the program does not print it."""
    command = ["dpkg-query", "--show", "--showformat=${Version}", "victoria-metrics"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = re.match(r"[\d.]+\d", done.stdout)
    return found[0] if found else ""


def _program(package: str, pattern: str) -> Path:
    found = sorted(Path("/").glob(pattern))
    if not found:
        raise FileNotFoundError(f"the Debian package {package} is not installed")
    return found[-1]
