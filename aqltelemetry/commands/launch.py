"""Runs a command so that every Python process below it is recorded.

This takes environment variables only, which processes pass on to their children.
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
# Signals that can't be waited for; the stop key of a terminal, which reaches the command by
# itself; and faults of this process, which must end it.
_NOT_FORWARDED = frozenset(
    {
        *(signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP),
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP),
    }
)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_STOPPING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
_SIGNAL_BASE = 128
_POLL_S = 0.25
_FIRST_POLLS_S = (0.02, 0.03, 0.05, 0.1)


def environment(
    directory: str, options: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return an environment in which Python processes record into `directory`.

    `options` are texts by the name of the option, as in `settings.variables`.
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
    """A file in memory to which processes below this one append notes.

    They find it through this process's descriptor, so it disappears with this process.
    """

    def __init__(self) -> None:
        self.run = os.urandom(RUN_CHARS // 2).hex()
        self._fd = os.memfd_create(f"aqltelemetry-{self.run}", os.MFD_CLOEXEC)

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables by which other processes find it."""
        return {RUN_ID: f"{self.run}/{os.getpid()}/{self._fd}"}

    def read(self) -> str:
        """Return the text of all notes."""
        return os.pread(self._fd, os.fstat(self._fd).st_size, 0).decode(errors="replace")


def run(
    command: Sequence[str], environ: Mapping[str, str], look: Callable[[int], object] | None = None
) -> int:
    """Run a command to its end; return its exit code, or the negative signal that ended it.

    Signals sent to this process are forwarded to the command, except those of the terminal,
    which reach it by themselves. As the first process of a container, this one also reaps
    orphaned processes. `look` is called with the command's PID several times a second.

    Raises CommandError if the command can't be run.
    """
    waited = signal.valid_signals() - _NOT_FORWARDED
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    # The parent process may have it ignored, and then the end of the command sends no signal.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        return _wait(_spawn(command, environ, before), waited, look)
    finally:
        signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_as(code: int) -> int:
    """End this process by the signal that ended the command, if that is a signal to stop.

    Supervisors treat this as a clean stop, and an exit status other than 0 as a failure.
    Otherwise return the exit status: `code` as `run` returned it, or 128 plus the signal, as
    shells do.
    """
    if -code in _STOPPING:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)  # has no effect in the first process of a container
    return code if code >= 0 else _SIGNAL_BASE - code


def _spawn(command: Sequence[str], environ: Mapping[str, str], mask: Collection[int]) -> int:
    try:
        return os.posix_spawnp(
            command[0], list(command), environ, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON
        )
    except OSError as exc:
        raise CommandError(command[0], exc) from exc


def _wait(child: int, waited: Collection[int], look: Callable[[int], object] | None) -> int:
    pauses = iter(_FIRST_POLLS_S)
    while True:
        # With a timeout, since another thread of this process may have got the signal.
        info = signal.sigtimedwait(waited, next(pauses, _POLL_S))
        if look is not None:
            look(child)
        if info is None or info.si_signo == signal.SIGCHLD:
            code = _reap(child)
            if code is not None:
                return code
        elif info.si_code <= 0:  # from a process; the terminal sends through the kernel
            with suppress(
                ProcessLookupError, PermissionError
            ):  # it has ended, or belongs to another user
                os.kill(child, info.si_signo)


def _reap(child: int) -> int | None:
    """Reap all ended processes; return the exit code of the child if it is one of them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == child:
            return os.waitstatus_to_exitcode(status)
