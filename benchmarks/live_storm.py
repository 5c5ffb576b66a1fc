"""Reads live, again and again, while processes record, publish, are killed and recovered.

Each writer records numbers in order, at a moderate rate, and counts what it has recorded in
shared memory that survives it: the witness. A reader that was opened at the start refreshes a
thousand times; at each refresh it must have every number that was recorded before it began, each
once, and none that was never recorded. At the end, and whenever a writer has just been killed, it
must have as many observations as `verify` counts in files and in the journal.

    benchmarks/live_storm.py --refreshes 1000 /dev/shm /var/tmp
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from _document import RELIABILITY, put, table
from _machine import describe
from storm import Place, fork, recover

from aqltelemetry import Monitor, TelemetryDB, record
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.location import file_system

WRITERS = 2
MAX_WRITERS = 4096
KILL_EVERY = 8
SMALL_FILE_BYTES = 4096


@dataclass
class Result:
    """What the reader found; all but the first six must be 0 or empty."""

    file_system: str = "unknown"
    refreshes: int = 0
    kills: int = 0
    recoveries: int = 0
    observations: int = 0
    in_journal: int = 0
    twice: int = 0
    missing: int = 0
    invented: int = 0
    unequal: int = 0
    problems: list[str] = field(default_factory=list)


def write(place: Place, witness: memoryview, slot: int) -> None:
    """Record numbers while the reader lives; each is witnessed after it was recorded."""
    reader = os.getppid()

    async def main() -> None:
        mine = Monitor(
            place.directory,
            journal_dir=place.journal,
            interval_s=0.05,
            flush_interval_s=random.choice((0.02, 0.1)),
            max_file_age_s=random.choice((0.05, 0.5)),
            max_file_bytes=random.choice((SMALL_FILE_BYTES, 16 << 20)),
        )
        await mine.start()
        label, count = str(slot), 0
        while os.getppid() == reader:
            for _ in range(random.randrange(4)):
                record(label, count)
                count += 1
                witness[slot] = count
            await asyncio.sleep(0.005)

    asyncio.run(main())


class Storm:
    """Writers and a recoverer, killed and replaced; `witness` counts what each has recorded."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.witness = memoryview(mmap.mmap(-1, 8 * MAX_WRITERS)).cast("q")
        self.kills = 0
        self.recoveries = 0
        self.slots = 0
        self._pids: list[int] = []
        self._recoverer: int | None = None

    def stir(self) -> None:
        """Kill a writer and the recoverer, and start others."""
        if self._recoverer is not None:
            _kill(self._recoverer)
        if len(self._pids) == WRITERS:
            self.kills += 1
            _kill(self._pids.pop(random.randrange(WRITERS)))
        while len(self._pids) < WRITERS:
            self._pids.append(fork(partial(write, self.place, self.witness, self.slots)))
            self.slots += 1
        self.recoveries += 1
        self._recoverer = fork(lambda: asyncio.run(recover(self.place)))

    def stop(self) -> None:
        """Kill all."""
        self.kills += len(self._pids)
        while self._pids:
            _kill(self._pids.pop())
        if self._recoverer is not None:
            _kill(self._recoverer)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


class Reader:
    """A live reader that is checked against the witness at each refresh."""

    def __init__(self, storm: Storm, result: Result) -> None:
        self._storm = storm
        self._result = result
        self._db = TelemetryDB(
            storm.place.directory, live=True, journal_dir=str(storm.place.journal)
        )

    def check(self) -> None:
        """Refresh, and count what is there twice, missing or invented."""
        before = list(self._storm.witness[: self._storm.slots])
        self._db.refresh()
        after = list(self._storm.witness[: self._storm.slots])
        data = self._db.frame("custom", missing_ok=True).data()
        slots = np.array([int(label) for label in data["Label"].cat.categories], np.int64)
        keys = data["Measurement"].to_numpy().astype(np.int64)
        if len(slots):
            keys = keys + (slots[data["Label"].cat.codes.to_numpy()] << 32)
        different = np.unique(keys)
        result = self._result
        result.refreshes += 1
        result.twice += len(keys) - len(different)
        counts = np.bincount(different >> 32, minlength=len(before))
        # Numbers count from 0: if as many are there as the highest says, none is missing.
        highest = np.zeros(len(before), np.int64)
        np.maximum.at(highest, different >> 32, (different & 0xFFFFFFFF) + 1)
        result.missing += int((highest - counts).sum())
        result.missing += int(np.maximum(np.array(before) - highest, 0).sum())
        # The last one may be recorded and not yet witnessed.
        result.invented += int(np.maximum(highest - np.array(after) - 1, 0).sum())

    def compare(self) -> None:
        """Compare all observations with what `verify` counts, while nothing changes."""
        place, result = self._storm.place, self._result
        self._db.refresh()
        found = sum(len(self._db.frame(each).data()) for each in self._db.prefixes())
        verdicts = verify(place.directory, place.roots())
        result.observations = found
        result.in_journal = sum(each.in_journal for each in verdicts)
        result.unequal += found != sum(each.rows + each.in_journal for each in verdicts)
        result.problems += [text for each in verdicts for text in each.problems]
        result.problems += [f"{each.name}: {each.reason}" for each in self._db.not_read()]


def run(base: Path, refreshes: int) -> Result:
    """Refresh so often during a storm below a directory."""
    result = Result(file_system(base) or "unknown")
    with tempfile.TemporaryDirectory(dir=base, prefix="live-storm-") as path:
        place = Place(Path(path))
        place.directory.mkdir()
        storm = Storm(place)
        reader = Reader(storm, result)
        try:
            for number in range(refreshes):
                if number % KILL_EVERY == 0:
                    storm.stir()
                reader.check()
        finally:
            storm.stop()
        result.kills, result.recoveries = storm.kills, storm.recoveries
        reader.check()
        reader.compare()  # with what the last ones have left in the journal
        left = result.in_journal
        asyncio.run(recover(place))
        reader.check()
        reader.compare()
        result.in_journal = left
        Reader(storm, result).compare()
    return result


def is_wrong(result: Result) -> bool:
    """Return whether anything was found that must not be."""
    return bool(
        result.twice or result.missing or result.invented or result.unequal or result.problems
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--refreshes", type=int, default=1000, help="per directory")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--write", action="store_true", help="the table in docs/reliability.md")
    parser.add_argument("directories", nargs="*", type=Path, help="on the file systems to try")
    chosen = parser.parse_args(arguments)
    random.seed(chosen.seed)
    warnings.simplefilter("error")
    machine = describe()
    results = []
    for base in chosen.directories or [Path("/dev/shm"), Path(tempfile.gettempdir())]:
        results.append(run(base, chosen.refreshes))
        print(json.dumps(asdict(results[-1])))
    if chosen.write:
        put(RELIABILITY, "storm-live", render(machine, results))
    sys.exit(any(map(is_wrong, results)))


def render(machine: Sequence[str], results: Sequence[Result]) -> str:
    """Return what was found as Markdown, a column for each file system."""
    columns = ["", *(result.file_system for result in results)]
    lines = [
        [name.replace("_", " "), *(_shown(getattr(result, name)) for result in results)]
        for name in asdict(results[0])
        if name != "file_system"
    ]
    when = time.strftime("%d %B %Y", time.gmtime())
    return f"{'; '.join(machine)}; {when}.\n\n{table(columns, lines)}"


def _shown(value: int | list[str]) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{len(value):,}"


if __name__ == "__main__":
    main()
