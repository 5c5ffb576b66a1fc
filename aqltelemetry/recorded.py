"""Counts what was published, by the bytes of the files alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from aqltelemetry import filenames
from aqltelemetry.evidence import Claim, read_claim
from aqltelemetry.observation import ACCOUNT


@dataclass
class Recorded:
    """What published files hold: rows by file prefix, the processes, what they dropped."""

    files: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    processes: set[tuple[int, str]] = field(default_factory=set)
    """By PID and writer."""
    dropped: int = 0
    """Observations that were not kept, by the accounts."""


def names(directory: str) -> list[str]:
    """Return the names of the published files; none where there is no directory."""
    try:
        found = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in found if filenames.parse(name) is not None)


def count(directory: str, wanted: Collection[str]) -> Recorded:
    """Count what files of these names hold; those that vanish in the meantime don't count."""
    recorded = Recorded()
    drops: dict[tuple[object, str], int] = {}
    for name in wanted:
        parsed = filenames.parse(name)
        if parsed is None:
            continue
        try:
            with open(os.path.join(directory, name), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            continue
        if parsed.prefix == ACCOUNT:
            with suppress(ValueError, KeyError):  # damaged: `verify` tells
                claim = read_claim(parsed, data)
                recorded.dropped += claim.torn
                _note_drops(parsed.writer, claim, drops)
            continue
        recorded.files += 1
        recorded.rows[parsed.prefix] += data.count(b"\n") - 1
        recorded.processes.add((parsed.pid, parsed.writer))
    recorded.dropped += sum(drops.values())
    return recorded


def _note_drops(writer: str, claim: Claim, drops: dict[tuple[object, str], int]) -> None:
    # The writers of a forked child all tell the same totals.
    teller = writer if claim.child is None else claim.child
    for reason, total, _ in claim.dropped:
        drops[teller, reason] = max(drops.get((teller, reason), 0), total)
