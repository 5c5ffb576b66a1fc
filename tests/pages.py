"""The pages of the documentation: their programs, their commands, and running them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aqltelemetry.journal.location import all_roots

ROOT = Path(__file__).parent.parent
_TIMEOUT_S = 110
_PORT = re.compile(r"80[08]0")
_SERVERS = ("gunicorn", "uvicorn", "hypercorn", "aqltelemetry run -- uvicorn", "python app.py")


@dataclass(frozen=True)
class Page:
    """A Markdown file, named by its path in the repository."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return ROOT / self.name

    def blocks(self, language: str) -> list[str]:
        """Return the contents of its code blocks in a language."""
        text = self.path.read_text()
        return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    def commands(self) -> list[str]:
        """Return its commands, one for each line of its `sh` blocks."""
        return [line for block in self.blocks("sh") for line in block.splitlines()]

    def programs(self) -> dict[str, str]:
        """Return its programs by file name, which is a comment in their first line."""
        found: dict[str, str] = {}
        for number, block in enumerate(self.blocks("python")):
            named = re.match(r"# (\w+\.py)\n", block)
            found[named[1] if named else f"block_{number}.py"] = block
        return found


def pages() -> list[Page]:
    """Return all pages of the documentation and the files that belong to it."""
    paths = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        ROOT / "benchmarks" / "README.md",
    ]
    return [Page(str(path.relative_to(ROOT))) for path in sorted(paths)]


def environment() -> dict[str, str]:
    """Return an environment in which commands are those of this Python."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(command: str | Sequence[str], cwd: Path, timeout_s: float = _TIMEOUT_S) -> str:
    """Run a command to its end and return what it printed; it must succeed."""
    done = subprocess.run(
        shlex.split(command) if isinstance(command, str) else command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_server(command: str) -> bool:
    """Whether a command of a page serves until it is stopped."""
    return command.startswith(_SERVERS)


@contextmanager
def serving(command: str, cwd: Path, port: int) -> Iterator[str]:
    """Run a page's server on a free port, and yield its URL once all its workers record.

    A worker that receives SIGTERM while it starts may not notice it, and its master kills it
    after half a minute.
    """
    workers = int((re.findall(r"--workers (\d+)", command) or ["1"])[0])
    roots = all_roots(str(cwd / "_monitoring"))
    url = f"http://127.0.0.1:{port}"
    command = _PORT.sub(str(port), command)
    with subprocess.Popen(
        shlex.split(command), cwd=cwd, env=environment(), stdout=subprocess.DEVNULL
    ) as server:
        try:
            get(f"{url}/users/0", server)
            while sum(len(list(root.glob("*"))) for root in roots) < workers:
                get(f"{url}/users/0", server)
            yield url
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def get(url: str, server: subprocess.Popen[bytes] | None = None) -> bytes:
    """Return the response of a server, which may be starting."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return bytes(response.read())
        except OSError:
            assert server is None or server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, f"no answer from {url}"
            time.sleep(0.05)
