"""Serves the page of a recording to the workers of a service, in a process of its own.

`aqltelemetry.hosts.views_process` starts it:

    python -m aqltelemetry.views.serve.child SOCKET IDLE_S JOURNAL_DIR DIR
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from aqltelemetry.views.serve.access import Access
from aqltelemetry.views.serve.application import Views
from aqltelemetry.views.serve.private_server import (
    Activity,
    only_server,
    serve_on,
    wait_for_end_of_input,
)
from aqltelemetry.views.serve.recording import Recording

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB


def main(path: str, idle_s: float, journal_dir: str, directory: str) -> int:
    """Serve on a socket until no request comes for a time, or the standard input ends.

    Return the exit status. Nothing is done if another process serves on the socket.
    """

    def load() -> TelemetryDB:
        from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - slow to import

        return TelemetryDB(directory, live=True, journal_dir=journal_dir)

    with only_server(path) as is_only:
        if is_only:
            asyncio.run(_serve(path, idle_s, directory, Recording(load)))
    return 0


async def _serve(path: str, idle_s: float, directory: str, recording: Recording) -> None:
    activity = Activity()
    views = Views(recording, Access(), directory, is_polled=True).application
    views.middlewares.append(activity.middleware)
    await serve_on(path, views, [activity.wait_until_idle(idle_s), wait_for_end_of_input()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]))
