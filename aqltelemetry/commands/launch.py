"""Runs a command such that every Python process below it is recorded.

By environment variables alone, which whatever starts those processes hands on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aqltelemetry.errors import CommandError
from aqltelemetry.settings import RUN_CHARS, RUN_ID, variables

_AUTOSTART = str(Path(__file__).parents[1] / "autostart")
# Those that nobody can wait for; a terminal stops this process as it does the command;
# and what a fault of this process raises, which must end it.
_LEFT_ALONE = frozenset(
    {
        *(signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP),
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP),
    }
)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_STOPPING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
_OF_A_SIGNAL = 128
_LOOK_S = 0.25
_FIRST_LOOKS_S = (0.02, 0.03, 0.05, 0.1)


def environment(
    directory: str, options: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return an environment in which Python processes record into `directory`.

    `options` are texts by name, as `settings` takes them from the environment.
    """
    path = environ.get("PYTHONPATH", "")
    return {
        **environ,
        **variables(options),
        **variables({"directory": directory}),
        "AQLTELEMETRY_RUN": "program",
        "AQLTELEMETRY_AUTOSTART": _AUTOSTART,
        "PYTHONPATH": f"{_AUTOSTART}{os.pathsep}{path}" if path else _AUTOSTART,
    }


class Notes:
    """A file in memory that processes below this one append to.

    It is found by way of this process's descriptor, so nothing is left of it afterwards.
    """

    def __init__(self) -> None:
        self.run = os.urandom(RUN_CHARS // 2).hex()
        self._fd = os.memfd_create(f"aqltelemetry-{self.run}", os.MFD_CLOEXEC)

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables by which others find it."""
        return {RUN_ID: f"{self.run}/{os.getpid()}/{self._fd}"}

    def read(self) -> str:
        """Return all that was noted."""
        return os.pread(self._fd, os.fstat(self._fd).st_size, 0).decode(errors="replace")


def run(
    command: Sequence[str], environ: Mapping[str, str], look: Callable[[int], object] | None = None
) -> int:
    """Run a command to its end; return its exit code, or the negative signal that ended it.

    Signals sent to this process reach the command; those that a terminal sends it has
    got already. As a container's first process this one also reaps what is left to it.
    `look` is called with the command's PID some times a second.
    Raises CommandError where the command can't be run.
    """
    waited = signal.valid_signals() - _LEFT_ALONE
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    # Who started us may ignore it, and then nobody would hear of the command's end.
    told = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        return _wait(_spawn(command, environ, before), waited, look)
    finally:
        signal.signal(signal.SIGCHLD, told)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_as(code: int) -> int:
    """End this process by the signal that ended the command, if a service is stopped by it.

    A supervisor takes it for a clean end, and an exit status for a failure. Otherwise return the
    exit status: `code` as `run` returned it, or 128 and the signal, as shells have it.
    """
    if -code in _STOPPING:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)  # has no effect in the first process of a container
    return code if code >= 0 else _OF_A_SIGNAL - code


def _spawn(command: Sequence[str], environ: Mapping[str, str], mask: Collection[int]) -> int:
    try:
        return os.posix_spawnp(
            command[0], list(command), environ, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON
        )
    except OSError as exc:
        raise CommandError(command[0], exc) from exc


def _wait(child: int, waited: Collection[int], look: Callable[[int], object] | None) -> int:
    pauses = iter(_FIRST_LOOKS_S)
    while True:
        # Not for ever, in case that a thread of somebody else's in here got the signal.
        info = signal.sigtimedwait(waited, next(pauses, _LOOK_S))
        if look is not None:
            look(child)
        if info is None or info.si_signo == signal.SIGCHLD:
            code = _reap(child)
            if code is not None:
                return code
        elif info.si_code <= 0:  # from a process; a terminal's come from the kernel
            with suppress(ProcessLookupError, PermissionError):  # it has ended, or is another's
                os.kill(child, info.si_signo)


def _reap(child: int) -> int | None:
    """Reap all that has ended; return the exit code of the child if it is among that."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == child:
            return os.waitstatus_to_exitcode(status)
