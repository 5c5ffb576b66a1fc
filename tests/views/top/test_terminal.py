"""The live view in a real pseudo-terminal, during a storm of processes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

from aqltelemetry.journal.location import all_roots
from pages import environment
from recordings import Recording, Route

pytestmark = pytest.mark.system
_SIZES = [(80, 24), (200, 50)]
_LIMIT_S = 60
_STORM = """
import sys
from aqltelemetry import sync
sync.start(sys.argv[1], interval_s=0.5)
print("recording", flush=True)
number = 0
while True:
    number += 1
    with sync.time_block(f"/route/{number % 5} [GET]"):
        for _ in range(2000):
            pass
"""
_RESTORED = ("\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l")


class _Terminal:
    """A terminal of a size, in which a command runs."""

    def __init__(self, command: Sequence[str], columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        self._fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.attributes = termios.tcgetattr(inner)
        self._inner = inner
        self.process = subprocess.Popen(
            command,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - Ctrl-C needs a controlling terminal
            env={**_environment(), "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)
        os.close(self._inner)

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        fcntl.ioctl(self._inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def text(self) -> str:
        return "\n".join(self.screen.display)

    def wait_for(self, what: Callable[[str], object]) -> str:
        """Read until the screen's text is as wanted, and return it."""
        deadline = time.monotonic() + _LIMIT_S
        while not what(self.text()):
            assert time.monotonic() < deadline, self.text()
            assert self.process.poll() is None, self.output.decode(errors="replace")[-3000:]
            self._read(0.2)
        return self.text()

    def wait_for_end(self) -> int:
        deadline = time.monotonic() + _LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text()
            self._read(0.1)
        self._read(0.1)
        return self.process.returncode

    def is_restored(self) -> bool:
        end = self.output.decode(errors="replace")
        codes = all(end.rfind(code) > end.rfind(code[:-1] + _opposite(code)) for code in _RESTORED)
        return codes and termios.tcgetattr(self._inner) == self.attributes

    def _read(self, limit_s: float) -> None:
        while select.select([self._fd], [], [], limit_s)[0]:
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:
                return
            self.output += data
            self._stream.feed(data)
            limit_s = 0


def _environment() -> dict[str, str]:
    """Return the environment without the variables that fix the size of a terminal."""
    return {
        name: value for name, value in environment().items() if name not in ("COLUMNS", "LINES")
    }


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _opposite(code: str) -> str:
    return "l" if code.endswith("h") else "h"


@contextmanager
def _top(directory: Path, *options: str, size: tuple[int, int] = _SIZES[0]) -> Iterator[_Terminal]:
    terminal = _Terminal(["aqltelemetry", "top", str(directory), *options], *size)
    try:
        yield terminal
    finally:
        terminal.close()


@contextmanager
def _storm(directory: Path, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += (_recorder(directory) for _ in range(number))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _recorder(directory: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _STORM, str(directory)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"recording\n"
    return process


@pytest.mark.parametrize("size", _SIZES)
def test_processes_that_run_come_and_are_killed_are_shown(
    directory: Path, size: tuple[int, int]
) -> None:
    with (
        _storm(directory, 3) as processes,
        _top(directory, "--view", "workers", size=size) as terminal,
    ):

        def has(process: subprocess.Popen[bytes], state: str) -> Callable[[str], bool]:
            return lambda text: any(
                str(process.pid) in line and state in line for line in text.splitlines()
            )

        for process in processes:
            terminal.wait_for(has(process, "running"))
        processes[0].kill()
        terminal.wait_for(has(processes[0], "killed"))
        processes.append(_recorder(directory))
        terminal.wait_for(has(processes[-1], "running"))
        text = terminal.wait_for(lambda text: "1 killed" in text)
        assert "requests/s" in text
        terminal.press("1")
        text = terminal.wait_for(lambda text: "/route/4 [GET]" in text)
        assert all(f"/route/{number} [GET]" in text for number in range(5))
        terminal.press("q")
        assert terminal.wait_for_end() == 0
        assert terminal.is_restored()


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_at_the_end(tmp_path: Path, end: str | signal.Signals) -> None:
    with _top(tmp_path) as terminal:
        terminal.wait_for(lambda text: "nothing was recorded yet" in text)
        assert not terminal.is_restored()
        if isinstance(end, str):
            terminal.press(end)
        else:
            terminal.process.send_signal(end)
        assert terminal.wait_for_end() == (0 if isinstance(end, str) else 128 + end)
        assert terminal.is_restored()


def test_a_directory_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    with _top(directory) as terminal:
        terminal.wait_for(lambda text: "does not exist yet" in text)
        with _storm(directory, 1):
            terminal.wait_for(lambda text: "/route/0 [GET]" in text)


def test_nothing_is_written_into_the_directory_or_the_journal(tmp_path: Path) -> None:
    recording = Recording(30.0)
    recording.add_worker().serve(Route("/a [GET]"))
    directory = recording.write(tmp_path / "recorded")

    def state() -> list[tuple[str, int]]:
        paths = [directory, *directory.iterdir()]
        return [(str(path), path.stat().st_mtime_ns) for path in sorted(paths)]

    before = state()
    with _top(directory, "--at", "2023-11-14T22:13:30Z", "--speed", "5") as terminal:
        terminal.wait_for(lambda text: "/a [GET]" in text)
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    assert state() == before
    assert [path for root in all_roots(str(directory)) for path in root.glob("*")] == []


def test_a_terminal_that_is_resized_is_filled(tmp_path: Path) -> None:
    with _top(tmp_path, size=_SIZES[0]) as terminal:
        terminal.wait_for(lambda text: "nothing was recorded yet" in text)
        terminal.resize(*_SIZES[1])
        terminal.wait_for(lambda text: len(text.splitlines()[0].rstrip()) > _SIZES[1][0] - 5)
