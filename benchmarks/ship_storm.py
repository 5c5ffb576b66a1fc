"""Kills `aqltelemetry ship` while its store and the network fail, and compares what is there.

Small files are published all the time, of several writers and prefixes. `ship --follow` is killed
by SIGKILL: at random moments, once the network has carried some bytes, right before or after the
store gets what it needs to store a shipment, once it has confirmed or stored it, or once a shipment
is planned. Meanwhile the store crashes and starts again, and a proxy in front of it drops, delays,
truncates, refuses or swallows what is sent. In the end all is healed, the rest is shipped, and each
row of the store is compared with those of the files, so that a lost, repeated or changed one is
noticed. The samples of a store without rows are compared with those of an undisturbed shipment.

    benchmarks/ship_storm.py --kills 300 --to postgresql
    benchmarks/ship_storm.py --kills 300 --to postgresql --write

With `--plant NAME` the shipper has a defect, which has to be found: the exit status is then 0 if
something was lost, repeated or changed.

    benchmarks/ship_storm.py --kills 20 --to postgresql --plant store-ledger-ignored
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import _ship_samples
from _document import RELIABILITY, between, merged, put
from _machine import describe
from _ship_engines import ENGINES, Rows, Store, published
from _ship_lives import Life, Lives, lives
from _ship_plants import PLANTS

from aqltelemetry.commands.options import EXIT_INCOMPLETE
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.ledger_lock import is_locked
from aqltelemetry.shipping.run import Job
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks.file_names import FileName, enclosing
from proxy import (
    ANSWER,
    BEFORE,
    CARRIED,
    COMMIT,
    DELAY,
    DROP,
    PASS,
    REFUSE,
    SWALLOW,
    TRUNCATE,
    Proxy,
    proxy,
)

STORES = (*ENGINES, "remote-write")
PREFIXES = ("duration", "runtime", "account")
WRITERS = 3
LABELS = ("/orders/{id} [GET]", "/orders/{id} [GET] 5xx", "query", 'a "quoted", label')
MOST_ROWS = 100
PUBLISH_S = 0.05
PUBLISH_WITHOUT_ROWS_S = 0.2  # by remote write, each file of a shipment is a request
STEP_NS = 15 * 60 * 10**9
LONGEST_LIFE_S = 1.5
MOMENT_S = 0.01
MOST_EVENTS = 6
MOST_PIECES = 60
START, WORK, PLANNED, STORED = "start", "work", "planned", "stored"
AIMS = (*(BEFORE, BEFORE, COMMIT, COMMIT, COMMIT, ANSWER, ANSWER), CARRIED, PLANNED, WORK, START)
AIMS_WITHOUT_NETWORK = (*(PLANNED,) * 4, *(STORED,) * 4, WORK, START)
CRASH_SHARE = 0.08
FAULT_SHARE = 0.5
FAULTS = (DROP, DROP, DROP, TRUNCATE, DELAY, REFUSE, SWALLOW)
HANG_S = 240
DAY_NS = 86_400 * 10**9


@dataclass
class Result:
    """The result of a storm; None is what can't be counted."""

    store: str
    kills: int = 0
    kills_during_a_shipment: int = 0
    shipments_sent_again: int = 0
    of_which_had_arrived: int | None = None
    crashes_of_the_store: int = 0
    changes_of_the_network: int = 0
    connections_cut: int = 0
    answers_lost: int = 0
    files: int = 0
    files_shipped_before_the_last_run: int = 0
    rows_or_samples: int = 0
    lost: int = 0
    repeated_or_changed: int = 0
    set_aside: int = 0

    @property
    def is_wrong(self) -> bool:
        """Whether anything was found that must not be."""
        return bool(self.lost or self.repeated_or_changed or self.set_aside)


class Publisher(threading.Thread):
    """Publishes files as recordings do, of times that advance by minutes."""

    def __init__(self, directory: Path, seed: int | None, every_s: float = PUBLISH_S) -> None:
        super().__init__(daemon=True)
        self._every_s = every_s
        self.ended = threading.Event()
        self.files = 0
        self._directory = directory
        self._random = random.Random(seed)
        self._segments: Counter[int] = Counter()
        self._now_ns = time.time_ns() - 90 * DAY_NS

    def run(self) -> None:
        """Publish a file at an interval, until the end."""
        while not self.ended.wait(self._every_s):
            self.publish()

    def publish(self) -> None:
        """Publish one file."""
        chance = self._random
        number = chance.randrange(WRITERS)
        prefix = chance.choices(PREFIXES, (8, 3, 1))[0]
        count = chance.randrange(1, MOST_ROWS)
        self._segments[number] += 1
        self._now_ns += STEP_NS
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


class Options(NamedTuple):
    """The options of a storm; `main` describes them."""

    kills: int
    seed: int | None
    plant: str | None
    aim: str | None
    is_calm: bool


class Noted(NamedTuple):
    """What a ledger says between two lives: the shipment that may not have arrived, and numbers."""

    shipment: str
    prefix: str
    names: Sequence[str]
    shipped: int
    refused: int


class Aim:
    """When to kill a shipper: at the n-th event of a kind, after a delay.

    Events of the network arrive on the thread of a connection, which waits: what the store has
    answered meanwhile does not reach the shipper.
    """

    def __init__(self, chance: random.Random, kinds: Sequence[str]) -> None:
        self.kind = chance.choice(kinds)
        most = MOST_PIECES if self.kind == CARRIED else MOST_EVENTS
        self.number = chance.randrange(1, most + 1)
        self.delay_s = chance.choice((0.0, chance.random() * MOMENT_S))
        self.share = chance.random()
        self.life: Life | None = None
        self._lock = threading.Lock()

    def saw(self, kind: str) -> bool:
        """Count an event; kill the shipper if it is the one, and return whether it was killed."""
        with self._lock:
            if kind != self.kind:
                return False
            self.number -= 1
            is_now = self.number == 0
        if is_now and self.life is not None:
            sleep(self.delay_s)
            self.life.kill()
        return is_now


class Storm:
    """Kills shippers of one directory to one store."""

    def __init__(
        self,
        directory: Path,
        store: Store,
        network: Proxy | None,
        starter: Lives,
        options: Options,
    ) -> None:
        self.result = Result(store.name)
        self._options = options
        self._aims = (options.aim,) if options.aim else AIMS if network else AIMS_WITHOUT_NETWORK
        self._directory, self._store, self._network = directory, store, network
        self._starter, self._chance = starter, random.Random(options.seed)
        url = store.url(None if network is None else network.port)
        self._ledger = Path(Job([str(directory)], Target(url)).ledger_path)
        self._sent_again: set[str] = set()
        self._arrived: set[str] = set()

    def disturb(self) -> None:
        """Change the state of the network, or crash the store and start it again."""
        chance, network = self._chance, self._network
        if self._options.is_calm:
            return
        if self._store.port is not None and chance.random() < CRASH_SHARE:
            self._store.crash()
            sleep(chance.random() * 0.2)
            self._store.restart()
            self.result.crashes_of_the_store += 1
        if network is not None and chance.random() < FAULT_SHARE:
            network.mode = PASS if network.mode != PASS else chance.choice(FAULTS)
            self.result.changes_of_the_network += 1

    def kill_one(self) -> None:
        """Start a shipper, kill it, and note what it was doing."""
        aim = Aim(self._chance, self._aims)
        if self._network is not None:
            self._network.seen = aim.saw
        life = self._starter.start(str(self._directory), "--follow", "--interval", "0.05s")
        aim.life = life
        if aim.kind == START:
            life.has_ended(aim.share)
        else:
            self._watch(life, aim)
        life.kill()
        status = life.wait()
        if not life.is_killed or status >= 0:
            raise SystemExit(f"ship ended by itself, with {status}:\n{self._starter.printed()}")
        self.result.kills += 1
        self._note_what_was_sent()

    def _watch(self, life: Life, aim: Aim) -> None:
        """Wait for the end of a shipper; kill it at a moment that the network does not show."""
        deadline = monotonic() + HANG_S
        while not (is_locked(str(self._ledger)) or life.has_ended(0.01) or monotonic() > deadline):
            pass
        look = {PLANNED: self._plans, STORED: self._store.parts}.get(aim.kind)
        known = frozenset() if look is None else look()
        share = aim.share if aim.kind == WORK else 1.0
        longest_s = HANG_S if self._options.is_calm else LONGEST_LIFE_S
        deadline = monotonic() + share * longest_s
        while monotonic() < deadline and not life.has_ended(0.001):
            if look is not None and (found := look()) - known:
                known = found
                aim.saw(aim.kind)

    def _plans(self) -> frozenset[str]:
        """Return the shipment that is planned now, if there is one."""
        try:
            with closing(
                sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True, timeout=0)
            ) as db:
                query = (
                    "SELECT value FROM meta WHERE key = 'plan' AND EXISTS (SELECT * FROM planned)"
                )
                return frozenset(str(row[0]) for row in db.execute(query))
        except sqlite3.Error:  # it is being written
            return frozenset()

    def _note_what_was_sent(self) -> None:
        noted = self.noted()
        if noted is None or not noted.names:
            return
        self.result.kills_during_a_shipment += 1
        self._sent_again.add(noted.shipment)
        self.result.shipments_sent_again = len(self._sent_again)
        has = self._store.has(noted.shipment, noted.prefix, noted.names)
        if has is not None:
            if has:
                self._arrived.add(noted.shipment)
            self.result.of_which_had_arrived = len(self._arrived)

    def noted(self) -> Noted | None:
        """Return what the ledger says, from a copy of it; None if there is none yet."""
        with tempfile.TemporaryDirectory(prefix="ship-ledger-") as path:
            # A killed shipper may have left a journal, which the next one that opens it rolls back.
            for file in self._ledger.parent.glob(f"{self._ledger.name}*"):
                Path(path, file.name).write_bytes(file.read_bytes())
            copy = Path(path, self._ledger.name)
            if not copy.exists():
                return None
            with Ledger(str(copy), Target(self._store.url(0)).identity) as ledger:
                plan, totals = ledger.planned(), ledger.totals()
                refused = len(ledger.refused())
        if plan is None:
            return Noted("", "", [], totals.files, refused)
        return Noted(
            plan.id, plan.prefix, [file.name for file in plan.files], totals.files, refused
        )


def storm(name: str, options: Options) -> Result:
    """Run a storm against a store, and return what was found."""
    with (
        _ship_samples.running() if name == "remote-write" else ENGINES[name]() as store,
        tempfile.TemporaryDirectory(prefix="ship-storm-") as path,
        _network(store, options.seed) as network,
    ):
        directory, log = Path(path) / "files", Path(path) / "log"
        directory.mkdir()
        url = store.url(None if network is None else network.port)
        has_rows = not isinstance(store, _ship_samples.VictoriaMetrics)
        every_s = PUBLISH_S if has_rows else PUBLISH_WITHOUT_ROWS_S
        publisher = Publisher(directory, options.seed, every_s)
        with lives(url, log, options.plant) as starter:
            made = Storm(directory, store, network, starter, options)
            result = made.result
            publisher.start()
            for _ in range(options.kills):
                made.disturb()
                made.kill_one()
                if result.kills % 20 == 0:
                    print(f"  {json.dumps(asdict(result))}", file=sys.stderr)
            publisher.ended.set()
            publisher.join()
            if network is not None:
                network.mode = PASS
                result.connections_cut, result.answers_lost = network.cut, network.answers_lost
            result.files = publisher.files
            noted = made.noted()
            result.files_shipped_before_the_last_run = 0 if noted is None else noted.shipped
            _ship_the_rest(directory, starter)
            noted = made.noted()
            result.set_aside = 0 if noted is None else noted.refused
        if isinstance(store, _ship_samples.VictoriaMetrics):
            _compare_samples(store, directory, log, result)
        else:
            for prefix in PREFIXES:
                _compare_rows(published(directory, prefix), store.rows(prefix), result)
    return result


@contextmanager
def _network(store: Store, seed: int | None) -> Iterator[Proxy | None]:
    with nullcontext() if store.port is None else proxy(store.port, seed or 0) as made:
        yield made


def _ship_the_rest(directory: Path, starter: Lives) -> None:
    """Ship what is left, undisturbed."""
    life = starter.start(str(directory), "--once")
    if not life.has_ended(HANG_S):
        life.kill()
    if (status := life.wait()) not in (0, EXIT_INCOMPLETE):
        raise SystemExit(f"ship ends with {status}:\n{starter.printed()}")


def _compare_rows(wanted: Rows, found: Rows, result: Result) -> None:
    result.rows_or_samples += wanted.total()
    result.lost += (wanted - found).total()
    result.repeated_or_changed += (found - wanted).total()


def _compare_samples(
    store: _ship_samples.VictoriaMetrics, directory: Path, log: Path, result: Result
) -> None:
    """Compare the samples with those of an undisturbed shipment into another store."""
    with _ship_samples.running() as other, lives(other.url(other.port), log, None) as starter:
        _ship_the_rest(directory, starter)
        found = _ship_samples.compare(other.samples(), store.samples())
    result.rows_or_samples, result.lost, result.repeated_or_changed = found


def render(machine: Sequence[str], results: Sequence[Result], before: str) -> str:
    """Return what was found as Markdown, a column for each store; other stores stay `before`."""
    columns = {
        result.store: {
            each.name.replace("_", " "): _text(getattr(result, each.name))
            for each in fields(Result)
            if each.name != "store"
        }
        for result in results
    }
    when = time.strftime("%d %B %Y", time.gmtime())
    return f"{'; '.join(machine)}; {when}.\n\n{merged(before, columns)}"


def _text(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="of the shipper, per store")
    parser.add_argument("--to", action="append", choices=STORES, help="default: all")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--plant", choices=[*PLANTS], help="a defect, which has to be found")
    parser.add_argument(
        "--write", action="store_true", help="the columns of these stores in docs/reliability.md"
    )
    parser.add_argument(
        "--aim", choices=[*sorted({*AIMS, *AIMS_WITHOUT_NETWORK})], help="of all kills"
    )
    parser.add_argument("--calm", action="store_true", help="no faults but the kills")
    arguments = parser.parse_args()
    options = Options(
        *(arguments.kills, arguments.seed, arguments.plant, arguments.aim, arguments.calm)
    )
    machine = describe()
    results = []
    for name in arguments.to or STORES:
        results.append(storm(name, options))
        print(json.dumps(asdict(results[-1])))
        if arguments.write and arguments.plant is None:
            put(
                RELIABILITY,
                "ship-storm",
                render(machine, results, between(RELIABILITY, "ship-storm")),
            )
    if arguments.plant is None:
        sys.exit(any(result.is_wrong for result in results))
    sys.exit(not all(result.is_wrong for result in results))


if __name__ == "__main__":
    main()
