"""Starts the process that ships the files of a recording, and starts it again if it ends.

It is a process of its own, since what it does would hold the interpreter lock of the service. All
recorded processes of a directory share one: the first one starts it, and each of the others does
so once nobody holds the lock of its ledger.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress

from aqltelemetry.shipping.ledger_lock import STATE_DIRECTORY, is_locked, ledger_path
from aqltelemetry.shipping.target import Target
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns, pause
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import start_thread
from aqltelemetry.system.unpatched import native

_MODULE = "aqltelemetry.shipping.child"
_VARIABLES = ("AQLTELEMETRY_SHIP_HOST", "AQLTELEMETRY_SHIP_SERVICE", "AQLTELEMETRY_SHIP_INSTANCE")
_AGAIN_S = 30.0
_POLL_S = 0.1
_REAP_S = 8.0


class ShippingProcess:
    """The process that ships the files of a directory to a destination, which is a URL."""

    def __init__(self, directory: str, url: str) -> None:
        self._directory = directory
        self._url = url
        state = os.path.join(directory, STATE_DIRECTORY)
        self._ledger = ledger_path(state, Target(url).identity)
        self._pid = os.getpid()
        self._stdin: int | None = None
        self._child: int | None = None
        self._is_ended = False

    def start(self) -> None:
        """Start the process, on a thread; does not raise."""
        try:
            start_thread(self._run, "aqltelemetry-ship")
        except Exception as exc:  # noqa: BLE001 - recording goes on without it
            log.warning("published files are not shipped: no thread can be started: %s", exc)

    def end(self) -> None:
        """Let the process ship what is left and end, without waiting for it."""
        self._is_ended = True
        stdin, self._stdin = self._stdin, None
        # The descriptors of a forked child are copies, which it closes by its end.
        if stdin is not None and os.getpid() == self._pid:
            with suppress(OSError):
                os.write(stdin, b"\n")
            os.close(stdin)

    def _run(self) -> None:
        while not self._is_ended:
            if not is_locked(self._ledger):
                try:
                    self._spawn()
                except OSError as exc:
                    log.warning("the process that ships files can't be started: %s", exc)
                else:
                    self._wait_for_its_end()
            self._wait_until(monotonic_ns() + int(_AGAIN_S * NS_PER_S))

    def _spawn(self) -> None:
        stdin, write_end = os.pipe()
        try:
            self._child = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", _MODULE, self._directory],
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
            name: text
            for name, text in os.environ.items()
            if name in _VARIABLES or not name.startswith("AQLTELEMETRY_")
        }
        return {**kept, "AQLTELEMETRY_SHIP_TO": self._url}

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
