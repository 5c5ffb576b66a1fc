"""Counts the observations in the journal, which are not yet in files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.audit.evidence import Evidence, read_journal
from aqltelemetry.journal.location import all_roots
from aqltelemetry.quantities import counted, processes
from aqltelemetry.settings import settings


class Unpublished(NamedTuple):
    """The observations in the journal, and the number of processes that recorded them."""

    of_killed: int = 0
    killed: int = 0
    of_running: int = 0
    running: int = 0


def count(directory: str, journal_dir: str | None = None) -> Unpublished:
    """Count the observations in the journal of a monitoring directory.

    `journal_dir` is the option of the recording, if it had one.

    Raises OSError if the journal can't be read, OptionError if its place has a bad value.
    """
    chosen = settings(directory, {} if journal_dir is None else {"journal_dir": journal_dir})
    roots = all_roots(chosen.directory, chosen.journal_dir, uid=os.stat(directory).st_uid)
    return count_in(roots)


def count_in(roots: Iterable[Path]) -> Unpublished:
    """Count the observations below the roots of a journal; raises OSError."""
    found = [each for each in read_journal(roots).values() if _accepted(each)]
    killed = [each for each in found if not each.is_alive]
    running = [each for each in found if each.is_alive]
    return Unpublished(
        sum(map(_accepted, killed)),
        len({each.pid for each in killed}),
        sum(map(_accepted, running)),
        len({each.pid for each in running}),
    )


def describe(found: Unpublished, directory: str) -> str:
    """Return whose observations these are and how they get published; "" if there are none."""
    parts = []
    if found.of_killed:
        parts.append(
            f"{counted(found.of_killed, 'observation')} of {processes(found.killed, 'killed')} "
            f"(to publish: aqltelemetry recover {shlex.quote(directory)})"
        )
    if found.of_running:
        parts.append(
            f"{counted(found.of_running, 'observation')} of "
            f"{processes(found.running, 'running')} (published within about a minute)"
        )
    return " and ".join(parts)


def _accepted(evidence: Evidence) -> int:
    return sum(account.accepted for account in evidence.journal.values() if account is not None)
