"""Runs a shipper in this process: opens its ledger, connects, ships, and ends at a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aqltelemetry.shipping.built_in import make_destination
from aqltelemetry.shipping.check import Checked, check
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.ledger_lock import STATE_DIRECTORY, ledger_path
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.removal import ShippedRemoval
from aqltelemetry.shipping.shipper import Progress, Shipper, Surroundings
from aqltelemetry.shipping.target import Target

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The signals after which a shipper ends."""
EXIT_S = 5.0
"""The longest time from a signal to the end of the process, in seconds."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to ship, to where, and for how long.

    Attributes:
        directories: The monitoring directories.
        target: The destination.
        state: The directory of the ledger; None for `.ship` in the first monitoring directory.
        interval_s: The time between two searches for new files, in seconds; None to end once
            all files that are there now have been shipped.
        delete_after_s: The time after which shipped files are removed, in seconds; None to keep
            them.
        retries_refused: Whether files that were refused are sent again.
    """

    directories: Sequence[str]
    target: Target
    state: str | None = None
    interval_s: float | None = None
    delete_after_s: float | None = None
    retries_refused: bool = False

    @property
    def ledger_path(self) -> str:
        """The file of the ledger."""
        return ledger_path(state_directory(self.directories, self.state), self.target.identity)


def state_directory(directories: Sequence[str], state: str | None) -> str:
    """Return the directory of the ledgers."""
    return state or os.path.join(directories[0], STATE_DIRECTORY)


def run(job: Job, around: Surroundings) -> Progress:
    """Ship files, and return what was shipped.

    Raises:
        LedgerBusyError: Another process ships to the same destination.
        LedgerError: The ledger can't be used.
        DestinationError: The destination can't be used as it is.
        GaveUp: The destination could not be reached.
    """
    make_destination(job.target)  # before there is a ledger of it
    with Ledger(job.ledger_path, job.target.identity) as ledger:
        if job.retries_refused:
            ledger.retry_refused()
        target = replace(job.target, shipper=ledger.shipper)
        removal = None
        if job.delete_after_s is not None:
            removal = ShippedRemoval(ledger, job.delete_after_s, around.report)
        shipper = Shipper(job.directories, ledger, make_destination(target), around, removal)
        return asyncio.run(_run(shipper, job, around))


def compare(job: Job) -> Checked:
    """Compare the destination with the ledger and the files; raises as `run`, and Unavailable."""
    with LedgerReader(job.ledger_path) as ledger:
        return asyncio.run(check(job.directories, ledger, make_destination(job.target)))


def _end(loop: asyncio.AbstractEventLoop, around: Surroundings) -> None:
    around.stop.set()
    # A client may wait on a thread for an answer, and nothing can interrupt that. Ending the
    # process is what a kill does, after which the same shipment is sent again.
    loop.call_later(EXIT_S, os._exit, 0)


async def _run(shipper: Shipper, job: Job, around: Surroundings) -> Progress:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _end, loop, around)
    around.started(around)
    try:
        if job.interval_s is None:
            await shipper.ship()
        else:
            await shipper.follow(job.interval_s)
    finally:
        await shipper.close()
    return shipper.done
