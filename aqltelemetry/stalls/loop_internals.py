"""Finds what an event loop waits on and its queue, for asyncio's loops and for uvloop's."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress


def selector_of(fd: int) -> int:
    """Return the epoll descriptor that watches another descriptor; -1 if there is none.

    epoll(7) lists the descriptors that it watches in `/proc/self/fdinfo`.
    """
    wanted = f"tfd:{fd:9d} "
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                    with open(f"/proc/self/fdinfo/{name}", encoding="ascii") as file:
                        if any(wanted in line for line in file):
                            return int(name)
    return -1


def queue_of(loop: asyncio.AbstractEventLoop) -> Sequence[object] | None:
    """Return the queue of callbacks that a running loop is about to run; None if not found.

    It is `_ready` in asyncio, and not visible in uvloop. So a callback is queued, and the queue
    that has it is searched for among what the loop refers to. Call it on the loop's thread.
    """
    handle = loop.call_soon(_nothing)
    candidates = [getattr(loop, "_ready", None), *gc.get_referents(loop)]
    for each in candidates:
        if isinstance(each, deque) and each and each[-1] is handle:
            handle.cancel()
            return each
    handle.cancel()
    return None


def _nothing() -> None:
    """Do nothing."""
