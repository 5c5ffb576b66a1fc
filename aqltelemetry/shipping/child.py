"""The process that a recorded service starts to ship its files: `python -m`, with a directory.

The environment names the destination. Its standard input is a pipe: once the service has written to
it or has ended, the process ships once more, for at most `LAST_S`. Killing it loses nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from aqltelemetry.errors import LedgerBusyError, TelemetryError
from aqltelemetry.shipping.run import Job, run
from aqltelemetry.shipping.shipper import Surroundings
from aqltelemetry.shipping.target import Origin, Target

LAST_S = 5.0
"""The longest time that the process lives on after the service, in seconds."""
_INTERVAL_S = 5.0
_POLL_S = 1.0
_NICENESS = 10


def main() -> int:
    """Ship the files of a directory until the service ends; return the exit status."""
    os.nice(_NICENESS)
    environ = os.environ
    origin = Origin(
        environ.get("AQLTELEMETRY_SHIP_HOST") or socket.gethostname(),
        environ.get("AQLTELEMETRY_SHIP_SERVICE", ""),
        environ.get("AQLTELEMETRY_SHIP_INSTANCE", ""),
    )
    job = Job(
        [sys.argv[1]], Target(environ["AQLTELEMETRY_SHIP_TO"], origin), interval_s=_INTERVAL_S
    )
    try:
        run(job, Surroundings(report=_report, started=_watch))
    except LedgerBusyError:  # another process of the service has started one
        return 0
    except TelemetryError as exc:
        _report(str(exc))
        return 1
    return 0


def _report(line: str) -> None:
    sys.stderr.write(f"aqltelemetry ship: {line}\n")


def _watch(around: Surroundings) -> None:
    """End once the service has ended, or has stopped to record."""
    loop = asyncio.get_running_loop()
    parent = os.getppid()

    def end() -> None:
        loop.remove_reader(0)
        around.last.set()
        # Nothing is lost by it.
        loop.call_later(LAST_S, os._exit, 0)

    def look() -> None:
        # A fork of the service may hold the other end of the pipe open.
        if os.getppid() != parent:
            end()
        else:
            loop.call_later(_POLL_S, look)

    loop.add_reader(0, end)
    look()


if __name__ == "__main__":
    sys.exit(main())
