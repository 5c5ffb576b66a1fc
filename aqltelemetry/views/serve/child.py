"""Serves the page of a recording to the workers of a service, in a process of its own.

`aqltelemetry.hosts.views_process` starts it:

    python -m aqltelemetry.views.serve.child SOCKET IDLE_S JOURNAL_DIR DIR
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.views.serve.access import Access
from aqltelemetry.views.serve.application import Views
from aqltelemetry.views.serve.recording import Recording

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB

_NICENESS = 19
_BACKLOG = 64


class _Activity:
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


def main(path: str, idle_s: float, journal_dir: str, directory: str) -> int:
    """Serve on a socket until no request comes for a time, or the standard input ends.

    Return the exit status. Nothing is done if another process serves on the socket.
    """
    # The service goes first, also where all processors are busy.
    os.nice(_NICENESS)
    lock_fd = syscalls.open_file(f"{path}.lock", os.O_RDWR | os.O_CREAT)
    try:
        syscalls.lock(lock_fd)
    except BlockingIOError:
        return 0
    with suppress(FileNotFoundError):
        syscalls.unlink(path)

    def load() -> TelemetryDB:
        from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - slow to import

        return TelemetryDB(directory, live=True, journal_dir=journal_dir)

    asyncio.run(_serve(path, idle_s, directory, Recording(load)))
    return 0


async def _serve(path: str, idle_s: float, directory: str, recording: Recording) -> None:
    activity = _Activity()
    views = Views(recording, Access(), directory, is_polled=True).application
    views.middlewares.append(activity.middleware)
    runner = web.AppRunner(views, access_log=None, shutdown_timeout=0)
    await runner.setup()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    await web.SockSite(runner, listening, backlog=_BACKLOG).start()
    ends = [
        asyncio.create_task(activity.wait_until_idle(idle_s)),
        asyncio.create_task(_wait_for_end_of_input()),
    ]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    with suppress(FileNotFoundError):
        # Who connects from now on starts another process.
        syscalls.unlink(path)
    await runner.cleanup()
    for task in ends:
        task.cancel()


async def _wait_for_end_of_input() -> None:
    """Wait for the end of the process that holds the other end of the standard input."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]))
