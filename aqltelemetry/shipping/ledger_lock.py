"""Where the ledger of a destination is, and the lock that a running shipper holds on it."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from aqltelemetry.errors import LedgerBusyError, LedgerError
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import pause

STATE_DIRECTORY = ".ship"
"""The name of the hidden directory in a monitoring directory."""
_LOCK_TRIES = 5
_LOCK_WAIT_S = 0.02


def ledger_path(directory: str, identity: str) -> str:
    """Return the path of the ledger of a destination in a directory of ledgers.

    `identity` is `Target.identity`.
    """
    scheme = identity.partition(":")[0]
    digest = hashlib.blake2s(identity.encode(), digest_size=8).hexdigest()
    return os.path.join(directory, f"{scheme}-{digest}.sqlite")


def is_locked(path: str) -> bool:
    """Return whether a shipper uses a ledger now."""
    try:
        fd = syscalls.open_file(f"{path}.lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        syscalls.lock(fd)
    except BlockingIOError:
        return True
    finally:
        syscalls.close(fd)
    return False


def locked(path: str, identity: str) -> int:
    """Return a descriptor that holds the lock."""
    try:
        syscalls.make_directories(os.path.dirname(path), 0o750)
        fd = syscalls.open_file(path, os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as exc:
        raise LedgerError(path, f"{exc.strerror}; choose another directory by --state") from exc
    for _ in range(_LOCK_TRIES):
        # `is_locked` holds it for a moment.
        with suppress(BlockingIOError):
            syscalls.lock(fd)
            return fd
        pause(_LOCK_WAIT_S)
    syscalls.close(fd)
    raise LedgerBusyError(path, identity)
