"""Answers the scrapes of a service's metrics, in a process of its own.

`aqltelemetry.hosts.views_process` starts it:

    python -m aqltelemetry.views.metrics.child SOCKET IDLE_S JOURNAL_DIR DIR BOUNDS

All workers of the service share it. It counts from its start on, so it outlives the worker that
has started it: it ends once that worker has ended and no process records into the directory, or
when no scrape has come for a time.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from aqltelemetry.shipping.metrics.buckets import DEFAULT_BOUNDS, parse_bounds
from aqltelemetry.views.metrics.routes import add_metrics
from aqltelemetry.views.metrics.scrape import Scrapes
from aqltelemetry.views.serve.access import Access, middleware
from aqltelemetry.views.serve.private_server import (
    Activity,
    only_server,
    serve_on,
    wait_for_end_of_input,
)

_POLL_S = 2.0


def main(path: str, idle_s: float, journal_dir: str, directory: str, bounds: str) -> int:
    """Serve on a socket, as the module describes, and return the exit status.

    Nothing is done if another process serves on the socket.
    """
    with only_server(path) as is_only:
        if is_only:
            asyncio.run(_serve(path, idle_s, journal_dir, directory, bounds))
    return 0


async def _serve(path: str, idle_s: float, journal_dir: str, directory: str, bounds: str) -> None:
    activity = Activity()
    application = web.Application(middlewares=[middleware(Access()), activity.middleware])
    chosen = parse_bounds("buckets", bounds) if bounds else DEFAULT_BOUNDS
    scrapes = add_metrics(application, [directory], journal_dir, chosen)
    ends = [activity.wait_until_idle(idle_s), _wait_for_end_of_recording(scrapes)]
    await serve_on(path, application, ends)


async def _wait_for_end_of_recording(scrapes: Scrapes) -> None:
    """Wait until the worker that started this has ended, and nobody records."""
    await wait_for_end_of_input()
    try:
        while await asyncio.wrap_future(scrapes.running()):  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(_POLL_S)
    except OSError:  # the directory is gone
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:6]))
