"""A real HTTP server that speaks S3: moto's, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from servers import wait_until

_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@contextmanager
def s3_server(port: int) -> Iterator[str]:
    """Serve S3 with an empty bucket `telemetry`; yield the options of its URLs."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(
        command,
        env={**os.environ, **_KEYS},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _is_made(f"http://127.0.0.1:{port}/telemetry"), "a bucket")
        yield f"region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _is_made(bucket: str) -> bool:
    request = urllib.request.Request(bucket, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return bool(response.status == 200)
    except OSError:
        return False
