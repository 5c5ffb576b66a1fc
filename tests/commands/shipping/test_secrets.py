"""Passwords and tokens are in nothing that `ship` writes: output, logs, exceptions, ledgers."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import traceback
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.commands.cli import main
from memory_destination import publish
from ports import free_port
from servers import wait_until

_SECRET = "hunter2-ü/3"
_QUOTED = quote(_SECRET, safe="")
_TRACES = (
    _SECRET.encode(),
    b"hunter2",
    _QUOTED.encode(),
    b64encode(f"me:{_SECRET}".encode()),
    b64encode(b"me:hunter2-")[:12],
)


class _Refusing(BaseHTTPRequestHandler):
    """Answers each request that its user may do nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(401)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"no")

    do_GET = do_HEAD = do_PUT = do_POST

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server that refuses everything."""
    with HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _texts(result: Result, directory: Path, caplog: pytest.LogCaptureFixture) -> Iterator[bytes]:
    yield result.output.encode()
    if result.exc_info is not None:
        yield "".join(traceback.format_exception(*result.exc_info)).encode()
    for record in caplog.records:
        yield record.getMessage().encode()
    for path in (directory / ".ship").rglob("*"):
        yield path.name.encode()
        yield path.read_bytes()


def _ship(directory: Path, url: str, *options: str) -> Result:
    environ = {"AQLTELEMETRY_SHIP_TO": url}
    return CliRunner().invoke(main, ["ship", *options, str(directory)], env=environ)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://me:{s}@127.0.0.1:{closed}/db", "can't be reached"),
        ("postgresql://127.0.0.1:{closed}/db?user=me&password={s}", "can't be reached"),
        ("postgresql://me:{s}@127.0.0.1/db?sslmode=none", "sslmode"),
        ("clickhouse://me:{s}@127.0.0.1:{port}/db", "can't be"),
        ("clickhouse://me:{s}@127.0.0.1:{closed}/db", "can't be reached"),
        ("crate://me:{s}@127.0.0.1:{port}/db", "refuses the user"),
        ("crate://me:{s}@127.0.0.1:{closed}/db", "can't be reached"),
        ("remote-write+http://me:{s}@127.0.0.1:{port}/x", "401"),
        ("remote-write+http://:{s}@127.0.0.1:{port}/x", "401"),
        ("remote-write+http://127.0.0.1:{closed}/x?token={s}", "can't be reached"),
        ("otlp+http://me:{s}@127.0.0.1:{port}", "401"),
        ("s3://me:{s}@bucket/x?endpoint_override=127.0.0.1:{port}&scheme=http&region=x", "bucket"),
        ("gopher://me:{s}@127.0.0.1/db", "must be a URL that begins with"),
        ("postgresql://me:hunter2/x@127.0.0.1/db", "is not a URL"),
    ],
)
def test_a_secret_is_in_no_output_log_exception_or_ledger(
    url: str,
    reason: str,
    port: int,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aqltelemetry.shipping.backoff._LONGEST_S", 0.0)
    publish(directory)
    caplog.set_level(logging.DEBUG)
    full = url.format(s=_QUOTED, port=port, closed=free_port())
    for options in ((), ("--check",), ("--dry-run",), ("status",)):
        caplog.clear()
        result = _ship(directory, full, *options) if options != ("status",) else _status(directory)
        if not options:
            assert reason in result.output
        for text in _texts(result, directory, caplog):
            assert not [trace for trace in _TRACES if trace in text]


def _status(directory: Path) -> Result:
    return CliRunner().invoke(main, ["ship", "status", str(directory), "--json"])


@pytest.mark.system
def test_a_secret_is_in_no_command_line_of_a_process(directory: Path, tmp_path: Path) -> None:
    """From the environment and from a file; the process and its threads have no other title."""
    publish(directory)
    file = tmp_path / "secret"
    file.write_text(f"me:{_SECRET}")
    url = f"127.0.0.1:{free_port()}/db"
    command = [sys.executable, "-m", "aqltelemetry", "ship", str(directory), "--follow"]
    ways: tuple[tuple[list[str], dict[str, str]], ...] = (
        ([], {"AQLTELEMETRY_SHIP_TO": f"postgresql://me:{_QUOTED}@{url}"}),
        (["--to", f"postgresql://{url}", "--credentials", str(file)], {}),
    )
    for number, (options, environ) in enumerate(ways):
        output = tmp_path / f"{number}.txt"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *options], env={**os.environ, **environ}, stdout=stream, stderr=stream
            )
        try:
            wait_until(lambda output=output: b"trying again" in output.read_bytes(), "an attempt")  # type: ignore[misc]
            for path in Path(f"/proc/{process.pid}").rglob("c[om][dm]*"):
                if path.name in {"cmdline", "comm"}:
                    with suppress(OSError):
                        assert b"hunter2" not in path.read_bytes()
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
        assert b"hunter2" not in output.read_bytes()
