"""Runs `aqltelemetry serve` for a test, and records what it shows."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aqltelemetry import sync

RECORDED = {"/orders/{id} [GET]": 200, "/users [POST]": 50, "render": 20}
"""The number of durations of each label that `record` records."""


def record(directory: Path) -> None:
    """Record some durations."""
    sync.start(directory)
    for label, count in RECORDED.items():
        for _ in range(count):
            with sync.time_block(label):
                sum(range(count))
    sync.stop()


@contextmanager
def serving(*arguments: str | Path) -> Iterator[str]:
    """Run the command on a free port; give the URL that it prints, and interrupt it at the end."""
    command = [sys.executable, "-m", "aqltelemetry", "serve", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        printed = it.stdout.readline()
        try:
            yield re.search(r" is shown at (\S+) until Ctrl-C\n", printed)[1]  # type: ignore[index]
        finally:
            it.send_signal(signal.SIGINT)
            _, errors = it.communicate(timeout=60)
        assert (it.returncode, errors) == (0, "")
