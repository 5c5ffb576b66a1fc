"""One directory that is recorded into, recovered, shipped, archived, rolled up and rotated.

Each step runs in a forked process, which may be killed before its n-th call of the system or of the
shipper's ledger. What was recorded, and what is in the directory, in the archives, in the roll-ups
and in the destination is then compared, row by row.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.parquet as pq

from aqltelemetry import Monitor, TelemetryDB, record
from aqltelemetry.archive.compact import compact
from aqltelemetry.archive.rollup import RollUps
from aqltelemetry.audit.rolled_up import rolled_up
from aqltelemetry.audit.verify import Verdict, verify
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.shipping.destinations.parquet import ParquetStore
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.run import Job, run
from aqltelemetry.shipping.shipper import Surroundings
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks.archives import is_archive
from aqltelemetry.sinks.file_names import parse
from aqltelemetry.sinks.removals import is_removals, load, read_removals
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system.clock import NS_PER_S
from injection import Kill, Witness, in_fork, injected, journal_of, recover_all, roots_of

Row: TypeAlias = tuple[int, int, str, int, str]
"""Time, bits of the value, label, PID, writer."""
Rows: TypeAlias = Counter[Row]
Step: TypeAlias = Callable[..., None]
PREFIX = "custom"
_MORE_CALLS: list[tuple[Any, str]] = [
    *((Ledger, name) for name in ("use", "plan", "shipped", "arrived", "note_archive", "reached")),
    (Ledger, "forget_plan"),
    (ParquetStore, "ship"),
    (ParquetStore, "_write"),
]
_FOREVER_NS = 1 << 60


@dataclass(frozen=True)
class World:
    """The places of a directory's life; everything is below `root`."""

    root: Path

    @property
    def directory(self) -> Path:
        return self.root / "monitoring"

    @property
    def archives(self) -> Path:
        return self.root / "archives"

    @property
    def there(self) -> Path:
        return self.root / "there"

    def save(self, place: Path) -> None:
        """Copy everything to a place."""
        shutil.copytree(self.root, place, symlinks=True)

    def restore(self, place: Path) -> None:
        """Replace everything by what was saved."""
        shutil.rmtree(self.root)
        shutil.copytree(place, self.root, symlinks=True)


def recording(world: World, witness: Witness, first: int = 0) -> None:
    """Record numbers from `first` on, into several segments and files."""

    async def work() -> None:
        mine = Monitor(
            world.directory,
            journal_dir=journal_of(world.directory),
            with_runtime=False,
            with_fsync=True,
            stop_timeout_s=5,
        )
        async with mine:
            for _ in range(2):
                for _ in range(4):
                    record(f"x {witness.value % 2}", first + witness.value)
                    witness.count()
                await mine.flush()

    asyncio.run(work())


def recovering(world: World) -> None:
    """Publish what killed processes left."""
    asyncio.run(recover_all(world.directory))


def archiving(world: World) -> None:
    """Archive everything into the other directory, and make roll-ups."""
    compact(
        str(world.directory),
        older_than_ns=0,
        to=str(world.archives),
        rollups=RollUps(NS_PER_S, _FOREVER_NS),
    )


def archiving_here(world: World) -> None:
    """Archive everything in the directory itself, and make roll-ups."""
    compact(str(world.directory), older_than_ns=0, rollups=RollUps(NS_PER_S, _FOREVER_NS))


def shipping(world: World) -> None:
    """Ship everything to Parquet files."""
    target = Target(f"file://{world.there}")
    run(Job([str(world.directory)], target), Surroundings(report=lambda _: None))


def retiring(world: World) -> None:
    """Remove the oldest archive, as retention does."""
    sizes = [path.lstat().st_size for path in world.directory.iterdir() if is_archive(path.name)]
    Retention(str(world.directory), sum(sizes) - 1, 1e9, start=lambda _: None).sweep()


ELSEWHERE: Sequence[Step] = (
    *(recording, recovering, shipping, archiving, recording),
    *(shipping, archiving, retiring, shipping, archiving),
)
"""What happens to a directory whose archives are put into another one."""
HERE: Sequence[Step] = (
    *(recording, recovering, archiving_here, recording, archiving_here),
    *(shipping, retiring, archiving_here, shipping),
)
"""What happens to one that has archives, from which the shipper ships."""


def read(world: World) -> Rows:
    """Return what `TelemetryDB` reads, published or not."""
    db = TelemetryDB(world.directory, live=True, journal_dir=str(journal_of(world.directory)))
    rows = db.rows(PREFIX, missing_ok=True)
    columns = (
        rows.timepoints_ns.tolist(),
        np.ascontiguousarray(rows.measurements).view(np.int64).tolist(),
        [rows.labels[code] for code in rows.label_codes.tolist()],
        [rows.processes[code].pid for code in rows.process_codes.tolist()],
        [rows.processes[code].writer for code in rows.process_codes.tolist()],
    )
    return Counter(zip(*columns, strict=True))


def shipped(world: World) -> Rows:
    """Return what is in the destination."""
    found: Rows = Counter()
    for path in world.there.glob(f"{PREFIX}/*/*/[!.]*.parquet"):
        table = pq.read_table(path, partitioning=None)
        bits = np.ascontiguousarray(table["value"].to_numpy()).view(np.int64).tolist()
        others = [table[name].to_pylist() for name in ("label", "pid", "writer")]
        found.update(zip(table["at_ns"].to_pylist(), bits, *others, strict=True))
    return found


def numbers(rows: Rows) -> Counter[int]:
    """Return how often each recorded number is there."""
    found: Counter[int] = Counter()
    for (_, bits, *_), times in rows.items():
        found[round(float(np.array([bits]).view(np.float64)[0]))] += times
    return found


def proof(world: World) -> Sequence[Verdict]:
    """Return the verdicts; fail if `verify` can't explain everything, or a roll-up is wrong."""
    verdicts = verify([world.directory], roots_of(world.directory))
    problems = [problem for verdict in verdicts for problem in verdict.problems]
    assert not problems, problems
    assert all(verdict.is_accounted_for for verdict in verdicts), "files are gone"
    assert not rolled_up([world.directory]).problems
    return verdicts


def check_destination(world: World, expected: Counter[int]) -> None:
    """Fail unless each row is in the destination and in the roll-ups, once."""
    assert not read(world) - shipped(world), "other rows were shipped"
    assert numbers(shipped(world)) == expected, "not each row was shipped once"
    assert counted_in_roll_ups(world) == expected.total(), "roll-ups are wrong"
    # What a recorder has begun is removed ten minutes later.
    assert not [*world.root.rglob("*.parquet.tmp")], "a temporary file is left"


def counted_in_roll_ups(world: World) -> int:
    """Return how many observations the roll-ups count."""
    return int(TelemetryDB(world.directory).rollups(PREFIX)["count"].sum())


def _without_any_file(world: World, present: set[str]) -> int:
    """Return how many observations retention removed of recordings that have no file any more."""
    found: dict[str, int] = {}
    for path in world.directory.glob("account.*.csv"):
        name = parse(path.name)
        if name is not None and is_removals(name):
            for (writer, prefix), runs in read_removals(load(str(path))).items():
                if prefix == ACCOUNT and writer not in present:
                    found[writer] = sum(run.amount for run in runs)
    return sum(found.values())


class Life:
    """Does the steps of a life, and does them again with one that is killed.

    Args:
        root: Where.
        steps: The steps. Nothing is retired before it is shipped and archived.
    """

    def __init__(self, root: Path, steps: Sequence[Step]) -> None:
        self.steps = steps
        self._world = World(root / "world")
        self._saved = root / "saved"
        self._world.archives.mkdir(parents=True)
        self._world.directory.mkdir()
        self._recorded: list[Counter[int]] = []
        """The numbers that are recorded before each step."""
        expected: Counter[int] = Counter()
        for number, step in enumerate(steps):
            self._world.save(self._saved / str(number))
            self._recorded.append(Counter(expected))
            expected += self._do(number, step, _NEVER)[1]
        self._check_end(expected)

    def kill(self, number: int, nth: int) -> bool:
        """Kill a step before its n-th call, look, and live on; return whether it was killed."""
        self._world.restore(self._saved / str(number))
        was_killed, recorded = self._do(number, self.steps[number], nth)
        expected = self._recorded[number] + recorded
        if self.steps[number] is recording:
            found = numbers(read(self._world))
            assert len(found - expected) <= 1, "what was never recorded is there"
            expected |= found
        self._check(number, expected)
        for later in range(number, len(self.steps)):
            if self.steps[later] is recording and later == number:
                self._do(later, recovering, _NEVER)
            else:
                expected += self._do(later, self.steps[later], _NEVER)[1]
        self._check_end(expected)
        return was_killed

    def _do(self, number: int, step: Step, nth: int) -> tuple[bool, Counter[int]]:
        """Do a step in a process of its own; return whether it was killed, and what it recorded."""
        witness, first = Witness(), number * 1000

        def work() -> None:
            with injected(Kill(nth), _MORE_CALLS):
                if step is recording:
                    recording(self._world, witness, first)
                else:
                    step(self._world)

        code = in_fork(work)
        assert code in {0, -signal.SIGKILL}, f"{step.__name__} ended with {code}"
        return code != 0, Counter(range(first, first + witness.value))

    def _check(self, number: int, expected: Counter[int]) -> None:
        """Check that all that was recorded is read once, or in files that retention removed."""
        found = numbers(read(self._world))
        verdicts = proof(self._world)
        removed = sum(verdict.removed for verdict in verdicts)
        gone = _without_any_file(self._world, {verdict.writer for verdict in verdicts})
        removed += gone
        if retiring not in self.steps[: number + 1]:
            assert (found, removed) == (expected, 0), "lost or repeated"
        assert not found - expected, "repeated"
        assert found.total() + removed == expected.total(), "lost"
        accepted = sum(verdict.accepted for verdict in verdicts) + gone
        assert accepted == expected.total(), "verify counts something else"

    def _check_end(self, expected: Counter[int]) -> None:
        self._check(len(self.steps), expected)
        check_destination(self._world, expected)


_NEVER = 1 << 60
