"""Starts `aqltelemetry ship` again and again, for `ship_storm.py`.

A process imports the command and its client once and forks a child for each life, which then runs
the command as a shell would start it. So a kill needs no second to start the next one. A child that
has ended stays a zombie until it is waited for, so a kill never meets another process.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO

from _ship_plants import PLANTS

from aqltelemetry.commands.cli import main
from aqltelemetry.shipping.built_in import MODULES

_CLIENTS: Mapping[str, Sequence[str]] = {
    # chDB, with its threads, is imported by each child.
    "chdb": ("clickhouse_connect",),
    "clickhouse": ("clickhouse_connect", "zstandard"),
    "file": ("pyarrow.fs", "pyarrow.parquet"),
    "postgresql": ("asyncpg",),
    "remote-write+http": ("aiohttp", "cramjam"),
}


class Life:
    """A running shipper; `kill` may be called from any thread, at any time, again and again."""

    def __init__(self, pid: int, events: IO[str], commands: IO[str]) -> None:
        self.pid = pid
        self.is_killed = False
        self._is_over = False
        self._lock = threading.Lock()
        self._events, self._commands = events, commands

    def kill(self) -> None:
        """Kill it at once."""
        with self._lock:
            if not self._is_over:
                os.kill(self.pid, signal.SIGKILL)
                self.is_killed = True

    def has_ended(self, timeout_s: float = 0.0) -> bool:
        """Wait for its end, at most for a time; return whether it has ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ)
            return bool(selector.select(timeout_s))

    def wait(self) -> int:
        """Wait for its end, and return its exit status, negative for a signal."""
        self._events.readline()
        with self._lock:
            self._is_over = True
            self._commands.write("\n")
            self._commands.flush()
        return int(self._events.readline())


class Lives:
    """Starts shippers to a URL, one after the other; what they print goes into a file."""

    def __init__(self, url: str, log: Path, server: subprocess.Popen[str]) -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        self._url, self._log = url, log
        self._commands, self._events = server.stdin, server.stdout

    def start(self, *arguments: str) -> Life:
        """Start `aqltelemetry ship` with arguments."""
        call = [self._url, str(self._log), *arguments]
        self._commands.write(json.dumps(call) + "\n")
        self._commands.flush()
        return Life(int(self._events.readline()), self._events, self._commands)

    def printed(self) -> str:
        """Return what the last shipper has printed."""
        return self._log.read_text(errors="replace")


@contextmanager
def lives(url: str, log: Path, plant: str | None) -> Iterator[Lives]:
    """Run the process that starts shippers to a URL, all with a planted defect if one is named."""
    command = [sys.executable, __file__, url.partition(":")[0], plant or ""]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as server:
        try:
            yield Lives(url, log, server)
        finally:
            server.kill()


def _serve(scheme: str, plant: str) -> None:
    """Start a child for each line of the standard input; report its end, and its exit status."""
    for name in _CLIENTS[scheme]:
        import_module(name)
    import_module("aqltelemetry.commands.shipping.ship")
    import_module(f"aqltelemetry.shipping.destinations.{MODULES[scheme]}")
    if plant:
        PLANTS[plant](scheme)
    while line := sys.stdin.readline():
        url, log, *arguments = json.loads(line)
        pid = os.fork()
        if not pid:
            os.environ["AQLTELEMETRY_SHIP_TO"] = url
            with open(log, "wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            main(["ship", *arguments], prog_name="aqltelemetry")  # ends the process
        print(pid, flush=True)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        print("ended", flush=True)
        sys.stdin.readline()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _serve(*sys.argv[1:])
