"""Kills recording processes and their recoverers at random, and counts what is lost.

Each writer records at full rate on several threads, with the samplers on, and counts what it has
recorded in shared memory that survives it: the witness. It is killed by SIGKILL at a random
moment. Recoverers run meanwhile and are killed, too. After each round the rest is recovered
undisturbed and compared with the witness by value, so that a lost, repeated or invented
observation is noticed; and `verify` must find all of it explained. An observation that was
dropped at a limit is not lost if it is counted exactly.

    benchmarks/storm.py --kills 1000 /dev/shm /var/tmp
    benchmarks/storm.py --minutes 30
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import monotonic, sleep

from _document import RELIABILITY, put, table
from _machine import describe

from aqltelemetry import Monitor, record
from aqltelemetry.audit import recover as recovery
from aqltelemetry.audit.verify import Verdict, verify
from aqltelemetry.journal.location import all_roots
from aqltelemetry.settings import settings

WRITERS = 2
RECOVERERS = 2
ROUND_KILLS = 20
LONGEST_S = 0.03
EARLY_SHARE = 0.2
HANG_S = 60


@dataclass
class Result:
    """The result of a storm; `extra` are stored observations that the witness does not count."""

    file_system: str
    threads: int
    kills: int = 0
    recoverer_kills: int = 0
    accepted: int = 0
    rows: int = 0
    dropped: int = 0
    lost: int = 0
    duplicated: int = 0
    damaged: int = 0
    extra: int = 0
    most_extra: int = 0
    left_over: int = 0
    hangs: int = 0
    collections: int = 0


class Place:
    """A monitoring directory and its journal, both below one directory."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "monitoring"
        self.journal = base / "journal"

    def roots(self) -> Sequence[Path]:
        """Return where journals are."""
        return all_roots(str(self.directory), str(self.journal))

    def clear(self) -> None:
        """Remove all."""
        for path in (self.directory, self.journal):
            shutil.rmtree(path, ignore_errors=True)


def write(place: Place, witness: memoryview, number: int, threads: int) -> None:
    """Record on many threads, for ever; each number is witnessed after it was recorded."""

    def work(slot: int) -> None:
        label, count = str(slot), 0
        while True:
            record(label, count)
            count += 1
            witness[slot] = count
            knot: list[object] = []  # garbage: the collector calls back during records
            knot.append(knot)

    async def main() -> None:
        mine = Monitor(
            place.directory,
            journal_dir=place.journal,
            interval_s=0.01,
            flush_interval_s=0.01,
            max_file_age_s=0.02,
        )
        await mine.start()
        for thread in range(threads):
            slot = number * threads + thread
            threading.Thread(target=work, args=(slot,), daemon=True).start()
        await asyncio.sleep(3600)

    asyncio.run(main())


async def recover(place: Place) -> None:
    """Recover what there is."""
    chosen = settings(place.directory, {"journal_dir": place.journal})
    await recovery.recover(chosen, place.roots(), share=1)


def recover_for_ever(place: Place) -> None:
    """Recover again and again."""
    while True:
        asyncio.run(recover(place))
        sleep(0.002)


def fork(work: Callable[[], object]) -> int:
    """Do something in a forked process; return its PID."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


class Recoverers:
    """Processes that recover, killed and replaced now and then."""

    def __init__(self, place: Place) -> None:
        self.kills = 0
        self._place = place
        self._pids: list[int] = []

    def stir(self) -> None:
        """Kill one of them, and have as many as there should be."""
        if self._pids and random.random() < 0.5:
            self._kill(self._pids.pop(random.randrange(len(self._pids))))
        while len(self._pids) < RECOVERERS:
            self._pids.append(fork(lambda: recover_for_ever(self._place)))

    def stop(self) -> None:
        """Kill all."""
        while self._pids:
            self._kill(self._pids.pop())

    def _kill(self, pid: int) -> None:
        self.kills += 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def round_of_kills(place: Place, result: Result, threads: int) -> None:
    """Kill some writers; then check what is left of them."""
    shared = mmap.mmap(-1, 8 * ROUND_KILLS * threads)
    witness = memoryview(shared).cast("q")
    recoverers = Recoverers(place)
    owners: dict[int, list[int]] = {}
    for number in range(0, ROUND_KILLS, WRITERS):
        writers = {
            fork(partial(write, place, witness, each, threads)): each
            for each in range(number, number + WRITERS)
        }
        recoverers.stir()
        for pid, each in writers.items():
            wait_for_first(witness[each * threads : (each + 1) * threads], result)
            sleep(random.uniform(0, LONGEST_S))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            owners.setdefault(pid, []).append(each)
            result.kills += 1
    recoverers.stop()
    result.recoverer_kills += recoverers.kills
    asyncio.run(recover(place))
    check(place, witness, owners, result, threads)


def wait_for_first(witness: memoryview, result: Result) -> None:
    """Wait for a first record; at times not so long, to kill a writer that is starting."""
    deadline = monotonic() + (random.uniform(0, 0.1) if random.random() < EARLY_SHARE else HANG_S)
    while not any(witness) and monotonic() < deadline:
        sleep(0.001)
    result.hangs += monotonic() > deadline + HANG_S / 2


def rows(place: Place) -> Iterator[tuple[int, int]]:
    """Return slot and number of each observation in the files."""
    for path in place.directory.glob("custom.*.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                yield int(row["Label"]), round(float(row["Measurement"]))


def check(
    place: Place,
    witness: memoryview,
    owners: dict[int, list[int]],
    result: Result,
    threads: int,
) -> None:
    """Hold the files against the witness."""
    verdicts = verify(place.directory, place.roots()) if place.directory.exists() else []
    found: dict[int, Counter[int]] = {}
    for slot, number in rows(place):
        found.setdefault(slot, Counter())[number] += 1
    for pid, numbers in owners.items():
        recorded = got = 0
        for slot in (each * threads + thread for each in numbers for thread in range(threads)):
            seen, count = found.get(slot, Counter()), witness[slot]
            recorded += count
            got += sum(number < count for number in seen)
            extra = sum(number >= count for number in seen)
            result.extra += extra
            result.most_extra = max(result.most_extra, extra)
            result.duplicated += sum(times - 1 for times in seen.values())
        dropped = _dropped(verdicts, pid)
        result.accepted += recorded
        result.rows += got
        result.dropped += recorded - got
        result.lost += max(0, recorded - got - dropped)
    result.collections += _collections(place)
    result.damaged += sum(len(each.problems) + each.damaged_segments for each in verdicts)
    result.left_over += sum(1 for root in place.roots() for _ in root.rglob("*"))
    place.clear()


def _collections(place: Place) -> int:
    """Count the collections that called back, and were recorded."""
    files = place.directory.glob("runtime.*.csv")
    return sum(path.read_bytes().count(b",gc pause,") for path in files)


def _dropped(verdicts: Sequence[Verdict], pid: int) -> int:
    return sum(each.total for verdict in verdicts if verdict.pid == pid for each in verdict.dropped)


def storm(base: Path, kills: int | None, seconds: float | None, threads: int) -> Result:
    """Kill so many writers, or for so long, with their files below a directory."""
    from aqltelemetry.journal.location import file_system  # noqa: PLC0415

    result = Result(file_system(base) or "unknown", threads)
    deadline = monotonic() + seconds if seconds else None
    with tempfile.TemporaryDirectory(dir=base, prefix="storm-") as path:
        place = Place(Path(path))
        while monotonic() < deadline if deadline else result.kills < (kills or 0):
            round_of_kills(place, result, threads)
            print(f"  {json.dumps(asdict(result))}", file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="of writers, per directory")
    parser.add_argument("--minutes", type=float, help="instead of a number of kills")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--write", action="store_true", help="the table in docs/reliability.md")
    parser.add_argument("directories", nargs="*", type=Path, help="on the file systems to try")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    machine = describe()
    directories = arguments.directories or [Path("/dev/shm"), Path(tempfile.gettempdir())]
    seconds = arguments.minutes * 60 / len(directories) if arguments.minutes else None
    results = []
    for base in directories:
        results.append(storm(base, arguments.kills, seconds, arguments.threads))
        print(json.dumps(asdict(results[-1])))
    if arguments.write:
        put(RELIABILITY, "storm", render(machine, results))
    sys.exit(any(is_wrong(result) for result in results))


def is_wrong(result: Result) -> bool:
    """Say whether anything was found that must not be."""
    faults = (result.lost, result.duplicated, result.damaged, result.left_over, result.hangs)
    return any(faults) or result.most_extra > 1


def render(machine: Sequence[str], results: Sequence[Result]) -> str:
    """Return what was found as Markdown, a column for each file system."""
    columns = ["", *(result.file_system for result in results)]
    lines = [
        [name.replace("_", " "), *(f"{getattr(result, name):,}" for result in results)]
        for name in asdict(results[0])
        if name != "file_system"
    ]
    when = time.strftime("%d %B %Y", time.gmtime())
    return f"{'; '.join(machine)}; {when}.\n\n{table(columns, lines)}"


if __name__ == "__main__":
    main()
