"""Has the n-th system call of journal and files fail, or be the last of its process."""

from __future__ import annotations

import contextlib
import errno
import inspect
import itertools
import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from aqltelemetry.audit.recover import Recovered, recover
from aqltelemetry.journal.location import all_roots
from aqltelemetry.settings import settings
from aqltelemetry.system import syscalls

CALLS: list[tuple[Any, str]] = [
    (syscalls, name)
    for name, each in vars(syscalls).items()
    if inspect.isfunction(each) and each.__module__ == syscalls.__name__
]
_WRITES: tuple[Any, str] = (AsyncBufferedIOBase, "writelines")
"""Writing is done by aiofiles, whose system calls are its own."""


class Fault:
    """What happens at the n-th call: an error, once or from then on, or the end of the process."""

    def __init__(self, nth: int, number: int = errno.EIO, *, lasting: bool = False) -> None:
        self.nth = nth
        self.calls = 0
        self.struck = ""
        self._number = number
        self._lasting = lasting
        self._count = itertools.count(1)

    def meet(self, name: str) -> None:
        self.calls = number = next(self._count)
        if number == self.nth or (self._lasting and number > self.nth):
            self.struck = self.struck or name
            self.strike()

    def strike(self) -> None:
        raise OSError(self._number, os.strerror(self._number))


class Kill(Fault):
    """The process is killed before its n-th call."""

    def strike(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def injected(fault: Fault, more: Sequence[tuple[Any, str]] = ()) -> Iterator[Fault]:
    """Inject a fault into the calls of this process, and into more calls, by owner and name."""

    def meeting(real: Any, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            try:
                fault.meet(name)
            except OSError:
                if name == "close":  # which frees the descriptor all the same
                    real(*arguments, **options)
                raise
            return real(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for place, name in (*CALLS, *more):
            patch.setattr(place, name, meeting(getattr(place, name), name))
        place, name = _WRITES
        patch.setattr(place, name, meeting(getattr(place, name), "write"))
        yield fault


class Witness:
    """A count in memory that is shared with forked processes, and outlives them."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 8)

    def count(self) -> None:
        struct.pack_into("<q", self._map, 0, self.value + 1)

    @property
    def value(self) -> int:
        return int(struct.unpack_from("<q", self._map)[0])


def in_fork(work: Callable[[], object]) -> int:
    """Do something in a forked process; return how that ended, as `waitstatus_to_exitcode`."""
    return forked(work)[1]


def forked(work: Callable[[], object]) -> tuple[int, int]:
    """Do something in a forked process that ends without a clean-up; return its PID, too."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def journal_of(directory: Path) -> Path:
    """Return the journal directory that these tests use."""
    return directory.parent / "journal"


def roots_of(directory: Path) -> list[Path]:
    """Return where the journals of a monitoring directory are."""
    return list(all_roots(str(directory), str(journal_of(directory))))


async def recover_all(directory: Path) -> Recovered:
    """Recover as the command does, as fast as can be."""
    chosen = settings(directory, {"journal_dir": str(journal_of(directory))})
    return await recover(chosen, roots_of(directory), share=1)
