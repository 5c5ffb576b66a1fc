"""Counts what is recorded but not yet in files: the observations in the journal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.audit.evidence import Evidence, look_into
from aqltelemetry.journal.location import all_roots
from aqltelemetry.quantities import counted, processes
from aqltelemetry.settings import settings


class Unpublished(NamedTuple):
    """How many observations are in the journal, and of how many processes."""

    of_killed: int = 0
    killed: int = 0
    of_running: int = 0
    running: int = 0


def count(directory: str) -> Unpublished:
    """Count the observations in the journal of a monitoring directory.

    Raises OSError where the journal can't be read, OptionError where an environment
    variable that says where it is has a bad value.
    """
    chosen = settings(directory)
    roots = all_roots(chosen.directory, chosen.journal_dir, uid=os.stat(directory).st_uid)
    return count_in(roots)


def count_in(roots: Iterable[Path]) -> Unpublished:
    """Count the observations below the roots of a journal; raises OSError."""
    found = [each for each in look_into(roots).values() if _accepted(each)]
    killed = [each for each in found if not each.is_alive]
    running = [each for each in found if each.is_alive]
    return Unpublished(
        sum(map(_accepted, killed)),
        len({each.pid for each in killed}),
        sum(map(_accepted, running)),
        len({each.pid for each in running}),
    )


def describe(found: Unpublished, directory: str) -> str:
    """Return where the observations come from and how they become files; "" if there are none."""
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
    return sum(told.accepted for told in evidence.journal.values() if told is not None)
