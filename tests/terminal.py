"""Runs a command on a pseudo-terminal of some width."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pages import environment


def run_on_terminal(
    command: Sequence[str], columns: int, cwd: Path, **variables: str
) -> tuple[int, str]:
    """Return the exit status of a command, and what it wrote, with all escape sequences."""
    parent, child = pty.openpty()
    with os.fdopen(parent, "rb", buffering=0) as terminal:
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        chosen = _without_size(environment()) | {"TERM": "xterm-256color", **variables}
        with subprocess.Popen(
            command, cwd=cwd, env=chosen, stdin=child, stdout=child, stderr=child
        ) as process:
            os.close(child)
            written = b""
            with suppress(OSError):  # a terminal that nothing has open any more
                while read := terminal.read(1 << 16):
                    written += read
        return process.returncode, written.decode().replace("\r\n", "\n")


def _without_size(variables: Mapping[str, str]) -> dict[str, str]:
    others = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    return {name: value for name, value in variables.items() if name not in others}
