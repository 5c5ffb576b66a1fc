"""Starts a process that works on the files of a recording, and starts it again if it ends.

It is a process of its own, since what it does would hold the interpreter lock of the service. All
recorded processes of a directory share one: the first one starts it, and each of the others does
so once nobody holds its lock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.system.clock import NS_PER_S, monotonic_ns, pause
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import start_thread
from aqltelemetry.system.unpatched import native

_AGAIN_S = 30.0
_POLL_S = 0.1
_REAP_S = 8.0


class Work(NamedTuple):
    """What a process does for all recorded processes of a directory.

    Attributes:
        name: A verb, such as "ship".
        module: What `python -m` runs, with the directory as its argument.
        environ: Variables that are set for it; it gets no other of aqltelemetry.
        is_done: Returns whether a process that lives does this already.
    """

    name: str
    module: str
    environ: Mapping[str, str]
    is_done: Callable[[], bool]


class HelperProcess:
    """A process that works on the files of a monitoring directory.

    Its standard input is a pipe: a line in it, or its end, says that the recording has ended.
    """

    def __init__(self, directory: str, work: Work) -> None:
        self._directory = directory
        self._work = work
        self._pid = os.getpid()
        self._stdin: int | None = None
        self._child: int | None = None
        self._is_ended = False

    def start(self) -> None:
        """Start the process, on a thread; does not raise."""
        try:
            start_thread(self._run, f"aqltelemetry-{self._work.name}")
        except Exception as exc:  # noqa: BLE001 - recording goes on without it
            name = self._work.name
            log.warning("no process can be started to %s: there is no thread: %s", name, exc)

    def end(self) -> None:
        """Let the process finish its work and end, without waiting for it."""
        self._is_ended = True
        stdin, self._stdin = self._stdin, None
        # The descriptors of a forked child are copies, which it closes by its end.
        if stdin is not None and os.getpid() == self._pid:
            with suppress(OSError):
                os.write(stdin, b"\n")
            os.close(stdin)

    def _run(self) -> None:
        while not self._is_ended:
            if not self._work.is_done():
                try:
                    self._spawn()
                except OSError as exc:
                    log.warning("no process can be started to %s: %s", self._work.name, exc)
                else:
                    self._wait_for_its_end()
            self._wait_until(monotonic_ns() + int(_AGAIN_S * NS_PER_S))

    def _spawn(self) -> None:
        stdin, write_end = os.pipe()
        try:
            self._child = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", self._work.module, self._directory],
                self._environment(),
                file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0)],
                # The terminal's Ctrl-C is not for it.
                setpgroup=0,
                setsigmask=(),
            )
        except OSError:
            os.close(write_end)
            raise
        finally:
            os.close(stdin)
        self._stdin = write_end
        if self._is_ended:
            self.end()

    def _environment(self) -> Mapping[str, str]:
        """Return an environment in which the process is not recorded itself."""
        kept = {
            name: text for name, text in os.environ.items() if not name.startswith("AQLTELEMETRY_")
        }
        return {**kept, **self._work.environ}

    def _wait_for_its_end(self) -> None:
        """Wait for the end of the process; if recording ends, for a limited time."""
        give_up_ns = None
        while self._child is not None and (give_up_ns is None or monotonic_ns() < give_up_ns):
            if self._is_ended and give_up_ns is None:
                give_up_ns = monotonic_ns() + int(_REAP_S * NS_PER_S)
            try:
                pid, _ = native("posix", "waitpid")(self._child, os.WNOHANG)
            except ChildProcessError:  # the application has waited for it
                pid = self._child
            if pid:
                self._child = None
            else:
                pause(_POLL_S)
        stdin, self._stdin = self._stdin, None
        if stdin is not None:
            os.close(stdin)

    def _wait_until(self, at_ns: int) -> None:
        while not self._is_ended and monotonic_ns() < at_ns:
            pause(_POLL_S)
