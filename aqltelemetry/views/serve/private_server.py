"""Serves an application to the workers of a service on a socket, in a process of its own.

`aqltelemetry.hosts.views_process` starts such processes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.system.priority import go_last

_BACKLOG = 64


class Activity:
    """When the last request came."""

    def __init__(self) -> None:
        self.last_ns = monotonic_ns()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note a request, at its begin and its end."""
        self.last_ns = monotonic_ns()
        try:
            return await handler(request)
        finally:
            self.last_ns = monotonic_ns()

    async def wait_until_idle(self, idle_s: float) -> None:
        """Wait until there was no request for a time."""
        while (  # noqa: ASYNC110 - the time grows
            left_s := idle_s - (monotonic_ns() - self.last_ns) / NS_PER_S
        ) > 0:
            await asyncio.sleep(left_s)


@contextmanager
def only_server(path: str) -> Iterator[bool]:
    """Let one process at a time serve on a socket; give False to any other one.

    The priority of the process is lowered.
    """
    # The service goes first, also where all processors are busy.
    go_last()
    lock_fd = syscalls.open_file(f"{path}.lock", os.O_RDWR | os.O_CREAT)
    try:
        syscalls.lock(lock_fd)
    except BlockingIOError:
        yield False
        return
    with suppress(FileNotFoundError):
        syscalls.unlink(path)
    yield True


async def serve_on(
    path: str, application: web.Application, ends: Sequence[Awaitable[object]]
) -> None:
    """Serve an application on a socket until one of several things ends."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    await web.SockSite(runner, listening, backlog=_BACKLOG).start()
    tasks = [asyncio.ensure_future(each) for each in ends]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    with suppress(FileNotFoundError):
        # Who connects from now on starts another process.
        syscalls.unlink(path)
    await runner.cleanup()
    for task in tasks:
        task.cancel()


async def wait_for_end_of_input() -> None:
    """Wait for the end of the process that holds the other end of the standard input."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
