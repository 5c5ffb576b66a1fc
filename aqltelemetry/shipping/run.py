"""Runs a shipper in this process: opens its ledger, connects, ships, and ends at a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aqltelemetry.shipping.built_in import make_destination
from aqltelemetry.shipping.ledger import STATE_DIRECTORY, Ledger, ledger_path
from aqltelemetry.shipping.shipper import Progress, Shipper, Surroundings
from aqltelemetry.shipping.target import Target

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The signals after which a shipper ends."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to ship, to where, and for how long.

    Attributes:
        directories: The monitoring directories.
        target: The destination.
        state: The directory of the ledger; None for `.ship` in the first monitoring directory.
        interval_s: The time between two searches for new files, in seconds; None to end once
            all files that are there now have been shipped.
        attempts: The number of failed attempts after which to give up; None for no limit.
    """

    directories: Sequence[str]
    target: Target
    state: str | None = None
    interval_s: float | None = None
    attempts: int | None = None

    @property
    def ledger_path(self) -> str:
        """The file of the ledger."""
        state = self.state or os.path.join(self.directories[0], STATE_DIRECTORY)
        return ledger_path(state, self.target.identity)


def run(job: Job, around: Surroundings) -> Progress:
    """Ship files, and return what was shipped.

    Raises:
        LedgerBusyError: Another process ships to the same destination.
        LedgerError: The ledger can't be used.
        DestinationError: The destination can't be used as it is.
        GaveUp: The destination could not be reached.
    """
    with Ledger(job.ledger_path, job.target.identity) as ledger:
        target = replace(job.target, shipper=ledger.shipper)
        shipper = Shipper(
            job.directories, ledger, make_destination(target), around, attempts=job.attempts
        )
        return asyncio.run(_run(shipper, job, around))


async def _run(shipper: Shipper, job: Job, around: Surroundings) -> Progress:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, around.stop.set)
    try:
        if job.interval_s is None:
            await shipper.ship()
        else:
            await shipper.follow(job.interval_s)
    finally:
        await shipper.close()
    return shipper.done
