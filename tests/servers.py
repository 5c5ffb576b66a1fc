"""Real servers, and requests to them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from aqltelemetry.journal.placement import all_roots


def run_gunicorn(
    arguments: tuple[str, ...],
    cwd: Path,
    directory: Path,
    *,
    workers: int,
    environ: Mapping[str, str] | None = None,
) -> tuple[int, int]:
    """Serve `/users/{user}` until each worker records and some requests were answered.

    One request more is sent, to a path that there is not. Return the master's
    PID and how many were answered.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        fd = listening.fileno()
        command = (sys.executable, "-m", "gunicorn", *arguments, "--bind", f"fd://{fd}")
        command += ("--log-level", "critical")
        server = subprocess.Popen(command, cwd=cwd, pass_fds=(fd,), env=environ)
    try:
        answered = _send_until_all_record(f"http://127.0.0.1:{port}", directory, workers)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    return server.pid, answered


def _send_until_all_record(url: str, directory: Path, workers: int) -> int:
    """Send requests until each worker has had some; return how many were answered."""
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/none", timeout=60)
    roots = all_roots(str(directory))
    answered = 0
    deadline = time.monotonic() + 60
    while sum(len(list(root.glob("*"))) for root in roots) < workers or answered < 50:
        assert time.monotonic() < deadline
        with urllib.request.urlopen(f"{url}/users/{answered}", timeout=60) as response:
            assert response.read().decode() == f"hello {answered}"
        answered += 1
    return answered
