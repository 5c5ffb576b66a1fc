"""Kills processes in the midst of stalls, and examines what is shown of these afterwards.

    python benchmarks/stall_kills.py --kills 1000 --write

Each process blocks its event loop again and again, by a sleep of a known length in a known line,
and notes when in memory that survives it, and when it started. It is killed by SIGKILL at a random
moment. What it left is read at once, from files and journal, and once more when it has been
recovered. In every second round the file of details that it was writing is cut at a random byte
before; in one of four of these only the end of its last line is missing. A stall that is shown is
*true* if its time overlaps one that was planted, and its length, cause, line and process are
possible for that one; else it is *false*. What is shown again after the recovery must be the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import gmtime, strftime
from typing import Any

from _document import RELIABILITY, put, table
from _machine import describe

from aqltelemetry import Monitor, TelemetryDB
from aqltelemetry.audit import recover as recovery
from aqltelemetry.journal.location import all_roots
from aqltelemetry.settings import settings
from aqltelemetry.stalls import causes

_THRESHOLD_S = 0.02
_SLEEP_S = 0.05
_REST_S = 0.005
_LONGEST_S = 1.0
_MOST = 4000
_AROUND_S = 0.06
_SLOW_S = 5.0
_PAIR = struct.Struct("<dd")
_COUNT = struct.Struct("<q")
_COLUMNS = ("kills", "stalls planted", "stalls shown", "with details", "details cut", "false",
            "changed by recovery")  # fmt: skip


class Witness:
    """Memory in which a process notes the begin and the end of its stalls."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, _COUNT.size + _MOST * _PAIR.size)

    def begin(self) -> None:
        """Note that a stall begins; its end is not known yet."""
        (number,) = _COUNT.unpack_from(self._map)
        _PAIR.pack_into(self._map, _COUNT.size + number * _PAIR.size, time.time(), 0.0)
        _COUNT.pack_into(self._map, 0, number + 1)

    def end(self) -> None:
        """Note that the last one has ended."""
        (number,) = _COUNT.unpack_from(self._map)
        at = _COUNT.size + (number - 1) * _PAIR.size
        begin_s, _ = _PAIR.unpack_from(self._map, at)
        _PAIR.pack_into(self._map, at, begin_s, time.time())

    def stalls(self) -> list[tuple[float, float]]:
        """Return those that have begun; the end of the last one may be 0."""
        (number,) = _COUNT.unpack_from(self._map)
        return [_PAIR.unpack_from(self._map, _COUNT.size + at * _PAIR.size) for at in range(number)]


def _block() -> None:
    time.sleep(_SLEEP_S)  # here


_LINE = _block.__code__.co_firstlineno + 1


async def _stall(folder: str, journal: str, witness: Witness, ready: Callable[[], object]) -> None:
    witness.begin()  # its start may stall as well, on a busy machine
    options: Any = {"journal_dir": journal, "stall_threshold_s": _THRESHOLD_S}
    async with Monitor(folder, with_stalls=True, flush_interval_s=0.2, **options):
        await asyncio.sleep(0.1)
        witness.end()
        ready()
        while True:
            witness.begin()
            _block()
            witness.end()
            await asyncio.sleep(_REST_S)


def _child(folder: str, journal: str, witness: Witness, writing: int) -> None:
    try:
        asyncio.run(_stall(folder, journal, witness, lambda: os.write(writing, b"x")))
    finally:
        os._exit(1)


def _start(folder: str, journal: str, witness: Witness) -> int:
    """Start a process and wait until it stalls; return its PID."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(folder, journal, witness, writing)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return pid


def _cut(folder: str, *, is_end: bool) -> bool:
    """Cut the unpublished details, as if the kernel had not written the rest.

    At a random byte, or so that only the end of the last line is missing.
    """
    for path in Path(folder).glob("stall-details.*.tmp"):
        size = path.stat().st_size
        if size:
            os.truncate(path, size - 1 if is_end else random.randrange(size))
            return True
    return False


def _shown(folder: str, journal: str) -> list[dict[str, Any]]:
    found = TelemetryDB(folder, live=True, journal_dir=journal).stalls()
    return found.to_dict("records")  # type: ignore[return-value]


def is_true(shown: Mapping[str, Any], planted: Sequence[tuple[float, float]], pid: int) -> bool:
    """Return whether a stall that is shown can be one that was planted."""
    begin_s, end_s = (shown[name].value / 1e9 for name in ("begin", "end"))
    length_s = shown["length_s"]
    has_details = shown["looks"] > 0 or shown["function"] != "" or bool(shown["shares"])
    shares = sum((shown["shares"] or {}).values())
    return (
        shown["pid"] == pid
        and shown["cause"] in causes.CAUSES
        and _THRESHOLD_S * 0.99 <= length_s < _SLOW_S
        and abs(end_s - begin_s - length_s) < _AROUND_S
        and any(
            begin_s < (end or begin + _SLOW_S) + _AROUND_S and end_s > begin - _AROUND_S
            for begin, end in planted
        )
        and (shown["file"] in {"", __file__} and shown["line"] >= 0)
        and (shown["function"] != "_block" or shown["line"] == _LINE)
        and (not has_details or abs(shares - 1) < _AROUND_S)
    )


def _kill_once(root: Path, number: int) -> Counter[str]:
    folder, journal = str(root / f"{number}"), str(root / f"{number}-journal")
    os.makedirs(folder)
    witness = Witness()
    pid = _start(folder, journal, witness)
    time.sleep(random.random() * _LONGEST_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    counts: Counter[str] = Counter(kills=1)
    counts["details cut"] += number % 2 == 0 and _cut(folder, is_end=number % 8 == 0)
    planted = witness.stalls()
    counts["stalls planted"] += len(planted) - 1
    before = _shown(folder, journal)
    chosen = settings(folder, {"journal_dir": journal})
    roots = all_roots(chosen.directory, chosen.journal_dir)
    asyncio.run(recovery.recover(chosen, roots))
    after = _shown(folder, journal)
    counts["stalls shown"] += len(after)
    counts["with details"] += sum(bool(each["shares"]) for each in after)
    for each in before + after:
        if not is_true(each, planted, pid):
            counts["false"] += 1
            sys.stdout.write(f"false: {each}\n")
    keys = [
        [(str(each["begin"]), each["length_s"], each["cause"], each["line"]) for each in found]
        for found in (before, after)
    ]
    if keys[0] != keys[1]:
        counts["changed by recovery"] += 1
        is_cut = bool(counts["details cut"])
        sys.stdout.write(f"changed, {is_cut=}, {len(keys[0])} and {len(keys[1])} stalls: ")
        sys.stdout.write(f"{sorted({*keys[0]} ^ {*keys[1]})}\n")
    shutil.rmtree(folder)
    shutil.rmtree(journal, ignore_errors=True)
    return counts


def kill(kills: int, root: Path) -> Counter[str]:
    """Kill as many processes; return the counts, by the name of the column."""
    total: Counter[str] = Counter(dict.fromkeys(_COLUMNS, 0))
    for number in range(kills):
        total.update(_kill_once(root, number))
    return total


def _in_processes(kills: int, processes: int, directory: str) -> Iterator[Counter[str]]:
    """Yield the counts of several processes, each of which kills its part."""

    def run(number: int) -> Counter[str]:
        reading, writing = os.pipe()
        part = kills // processes + (number < kills % processes)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                random.seed(number)
                with tempfile.TemporaryDirectory(dir=directory) as root:
                    found = kill(part, Path(root))
                os.write(writing, json.dumps(found).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with open(reading, encoding="utf-8") as file:
            text = file.read()
        os.waitpid(pid, 0)
        return Counter(json.loads(text))

    with ThreadPoolExecutor(processes) as pool:
        yield from pool.map(run, range(processes))


def main() -> None:
    """Print what was shown after the kills; exit with 1 if anything false was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--directory", default=tempfile.gettempdir())
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    arguments = parser.parse_args()
    total: Counter[str] = Counter(dict.fromkeys(_COLUMNS, 0))
    for found in _in_processes(arguments.kills, arguments.processes, arguments.directory):
        total.update(found)
    row = [f"{total[name]:,}" for name in _COLUMNS]
    sys.stdout.write(table(_COLUMNS, [row]))
    if arguments.write:
        when = f"{'; '.join(describe())}; {strftime('%-d %B %Y', gmtime())}."
        put(RELIABILITY, "stall kills", f"{when}\n\n{table(_COLUMNS, [row])}")
    sys.exit(bool(total["false"] or total["changed by recovery"]))


if __name__ == "__main__":
    main()
