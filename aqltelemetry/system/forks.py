"""Makes forks wait while a thread of the recording imports a module.

In a child that is forked meanwhile, the module would stay partially imported: the thread that
imports it does not exist there. An import of it fails then, or waits for that thread forever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from aqltelemetry.system.unpatched import native

_MAX_WAIT_S = 5.0  # much longer than an import; a disk may hang for longer than a fork should wait


class _Import:
    """Whether a thread imports something, as a lock that forks wait for."""

    lock = native("_thread", "allocate_lock")()
    fork_has_lock = False
    hooked = False

    @classmethod
    def hook(cls) -> None:
        """Register the hooks for forks, once; they can't be unregistered."""
        if not cls.hooked:
            cls.hooked = True
            os.register_at_fork(
                before=cls._before, after_in_parent=cls._after, after_in_child=cls._after_in_child
            )

    @classmethod
    def _before(cls) -> None:
        cls.fork_has_lock = cls.lock.acquire(timeout=_MAX_WAIT_S)

    @classmethod
    def _after(cls) -> None:
        if cls.fork_has_lock:
            cls.fork_has_lock = False
            cls.lock.release()

    @classmethod
    def _after_in_child(cls) -> None:
        cls.lock = native("_thread", "allocate_lock")()
        cls.fork_has_lock = False


@contextmanager
def forks_wait() -> Iterator[None]:
    """Make forks of this process wait, for at most 5 seconds, until the block ends."""
    _Import.hook()
    lock = _Import.lock
    with lock:
        yield
