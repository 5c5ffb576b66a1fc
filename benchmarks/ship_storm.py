"""Kills `aqltelemetry ship` at random while its store and the network fail, and counts rows.

Files are published all the time, of several writers and prefixes. `ship --follow` is killed by
SIGKILL at random moments. Meanwhile the store crashes and starts again, and a proxy in front of it
drops, delays, truncates, refuses or swallows what is sent. In the end all is healed, the rest
is shipped, and each row of the store is compared with those of the files, so that a lost, repeated
or changed one is noticed.

    benchmarks/ship_storm.py --kills 300 --to postgresql
    benchmarks/ship_storm.py --kills 300 --to postgresql --write
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import monotonic, sleep

from _document import RELIABILITY, put, table
from _machine import describe
from _ship_engines import ENGINES, Engine, Rows, published

from aqltelemetry.shipping.ledger_lock import is_locked
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.run import Job
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks.file_names import FileName, enclosing
from proxy import DELAY, DROP, PASS, REFUSE, SWALLOW, TRUNCATE, Proxy, proxy

PREFIXES = ("duration", "runtime", "account")
WRITERS = 3
LABELS = ("/orders/{id} [GET]", "/orders/{id} [GET] 5xx", "query", 'a "quoted", label')
MOST_ROWS = 300
PUBLISH_S = 0.2
LONGEST_LIFE_S = 2.5
EARLY_SHARE = 0.1
CRASH_SHARE = 0.08
FAULT_SHARE = 0.5
FAULTS = (DROP, DROP, DROP, TRUNCATE, DELAY, REFUSE, SWALLOW)
HANG_S = 240
DAY_NS = 86_400 * 10**9


@dataclass
class Result:
    """The result of a storm."""

    store: str
    kills: int = 0
    crashes_of_the_store: int = 0
    changes_of_the_network: int = 0
    connections_cut: int = 0
    files: int = 0
    files_shipped_before_the_end: int = 0
    rows: int = 0
    lost: int = 0
    repeated_or_changed: int = 0
    set_aside: int = 0

    @property
    def is_wrong(self) -> bool:
        """Whether anything was found that must not be."""
        return bool(self.lost or self.repeated_or_changed or self.set_aside)


class Publisher(threading.Thread):
    """Publishes files as recordings do, of times that advance by minutes."""

    def __init__(self, directory: Path, seed: int | None) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.files = 0
        self._directory = directory
        self._random = random.Random(seed)
        self._segments: Counter[int] = Counter()
        self._now_ns = time.time_ns() - DAY_NS

    def run(self) -> None:
        """Publish a file at an interval, until the end."""
        while not self.ended.wait(PUBLISH_S):
            self.publish()

    def publish(self) -> None:
        """Publish one file."""
        chance = self._random
        number = chance.randrange(WRITERS)
        prefix = chance.choices(PREFIXES, (8, 3, 1))[0]
        count = chance.randrange(1, MOST_ROWS)
        self._segments[number] += 1
        self._now_ns += 60 * 10**9
        times = sorted(self._now_ns + chance.randrange(50 * 10**9) for _ in range(count))
        rows = "".join(
            f"{at_ns},{chance.random():.9f},{_quoted(chance.choice(LABELS))},{4000 + number}\n"
            for at_ns in times
        )
        segment = self._segments[number]
        span = enclosing(times[0], times[-1])
        writer = f"{number + 1:016x}"
        name = FileName(prefix, *span, 4000 + number, writer, segment, segment, 0)
        path = self._directory / f"{prefix}.{writer}.{segment}.tmp"
        path.write_text("Timepoint,Measurement,Label,PID\n" + rows)
        path.rename(self._directory / str(name))
        self.files += 1


def _quoted(label: str) -> str:
    return '"' + label.replace('"', '""') + '"' if '"' in label else label


def storm(name: str, kills: int, seed: int | None) -> Result:
    """Run a storm against a store, and return what was found."""
    chance = random.Random(seed)
    with (
        ENGINES[name]() as engine,
        tempfile.TemporaryDirectory(prefix="ship-storm-") as path,
        _network(engine, seed) as network,
    ):
        directory = Path(path)
        result = Result(engine.name)
        publisher = Publisher(directory, seed)
        publisher.start()
        url = engine.url(None if network is None else network.port)
        for _ in range(kills):
            _disturb(engine, network, chance, result)
            _kill_one(directory, url, chance)
            result.kills += 1
            if result.kills % 20 == 0:
                print(f"  {json.dumps(asdict(result))}", file=sys.stderr)
        publisher.ended.set()
        publisher.join()
        if network is not None:
            network.mode = PASS
            result.connections_cut = network.cut
        result.files = publisher.files
        result.files_shipped_before_the_end = _shipped(directory, url)
        _ship_the_rest(directory, url, result)
        for prefix in PREFIXES:
            _compare(published(directory, prefix), engine.rows(prefix), result)
    return result


@contextmanager
def _network(engine: Engine, seed: int | None) -> Iterator[Proxy | None]:
    with nullcontext() if engine.port is None else proxy(engine.port, seed or 0) as made:
        yield made


def _disturb(engine: Engine, network: Proxy | None, chance: random.Random, result: Result) -> None:
    """Change the state of the network, or crash the store and start it again."""
    if engine.port is not None and chance.random() < CRASH_SHARE:
        engine.crash()
        sleep(chance.random() * 0.2)
        engine.restart()
        result.crashes_of_the_store += 1
    if network is not None and chance.random() < FAULT_SHARE:
        network.mode = PASS if network.mode != PASS else chance.choice(FAULTS)
        result.changes_of_the_network += 1


def _kill_one(directory: Path, url: str, chance: random.Random) -> None:
    """Start a shipper, and kill it at a random moment of its work, or of its start."""
    with _started(directory, url, "--follow", "--interval", "0.05s") as process:
        if chance.random() < EARLY_SHARE:
            sleep(chance.random() * LONGEST_LIFE_S)
        else:
            path = Job([str(directory)], Target(url)).ledger_path
            deadline = monotonic() + HANG_S
            while not is_locked(path) and process.poll() is None and monotonic() < deadline:
                sleep(0.02)
            sleep(chance.random() * LONGEST_LIFE_S)
        process.send_signal(signal.SIGKILL)


def _shipped(directory: Path, url: str) -> int:
    """Return how many files were shipped so far."""
    with LedgerReader(Job([str(directory)], Target(url)).ledger_path) as ledger:
        return ledger.totals().files


@contextmanager
def _started(directory: Path, url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "aqltelemetry", "ship", str(directory), *options]
    environ = {**os.environ, "AQLTELEMETRY_SHIP_TO": url}
    with subprocess.Popen(command, env=environ, stdout=-3, stderr=subprocess.PIPE, text=True) as it:
        try:
            yield it
        finally:
            it.kill()


def _ship_the_rest(directory: Path, url: str, result: Result) -> None:
    deadline = monotonic() + HANG_S
    while True:
        with _started(directory, url, "--once") as process:
            _, errors = process.communicate(timeout=HANG_S)
        result.set_aside = errors.count("refused:")
        if process.returncode == 0:
            return
        print(errors, file=sys.stderr)
        if monotonic() > deadline or result.set_aside:
            raise SystemExit(f"ship ends with {process.returncode}")


def _compare(wanted: Rows, found: Rows, result: Result) -> None:
    result.rows += wanted.total()
    result.lost += (wanted - found).total()
    result.repeated_or_changed += (found - wanted).total()


def render(machine: Sequence[str], results: Sequence[Result]) -> str:
    """Return what was found as Markdown, a column for each store."""
    columns = ["", *(result.store for result in results)]
    lines = [
        [each.name.replace("_", " "), *(f"{getattr(result, each.name):,}" for result in results)]
        for each in fields(Result)
        if each.name != "store"
    ]
    when = time.strftime("%d %B %Y", time.gmtime())
    return f"{'; '.join(machine)}; {when}.\n\n{table(columns, lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="of the shipper, per store")
    parser.add_argument("--to", action="append", choices=[*ENGINES], help="default: all")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--write", action="store_true", help="the table in docs/reliability.md")
    arguments = parser.parse_args()
    machine = describe()
    results = []
    for name in arguments.to or ENGINES:
        results.append(storm(name, arguments.kills, arguments.seed))
        print(json.dumps(asdict(results[-1])))
    if arguments.write:
        put(RELIABILITY, "ship-storm", render(machine, results))
    sys.exit(any(result.is_wrong for result in results))


if __name__ == "__main__":
    main()
