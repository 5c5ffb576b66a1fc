"""A recorder, a recoverer, an archiver and a shipper that work at the same time and are killed.

All four work on one directory, each in a process of its own, until each is killed at a random
moment. What was recorded, and what is read then, is compared; then four new ones go on. In the end
one of each does all that is left, and directory, roll-ups and destination are compared with what
was recorded.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from aqltelemetry import Monitor, record
from injection import Witness, journal_of
from whole_life import (
    World,
    archiving_here,
    check_destination,
    numbers,
    proof,
    read,
    recovering,
    shipping,
)

KINDS = ("recording", "recovering", "archiving", "shipping")
_LIFE_NUMBERS = 1_000_000
_BURST = 8
_AT_ONCE = 0.25


def _record(world: World, witness: Witness, first: int) -> None:
    """Record numbers from `first` on, and publish them now and then, for ever."""

    async def work() -> None:
        async with Monitor(
            world.directory, journal_dir=journal_of(world.directory), with_runtime=False
        ) as mine:
            while True:
                for _ in range(_BURST):
                    record(f"x {witness.value % 2}", first + witness.value)
                    witness.count()
                    await asyncio.sleep(0)
                await mine.flush()

    asyncio.run(work())


def _again(work: Callable[[World], None], world: World) -> None:
    while True:
        work(world)


def _started(work: Callable[[], None]) -> int:
    """Do something in a forked process, which is to be killed; return its PID."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


class FourAtOnce:
    """Four processes on one directory.

    Args:
        root: Where.
        chance: The random numbers that decide when each is killed.
        longest_s: The longest time for which a process lives.
    """

    def __init__(self, root: Path, chance: Random, longest_s: float = 0.4) -> None:
        self.kills: Counter[str] = Counter()
        self.expected: Counter[int] = Counter()
        self.world = World(root / "world")
        self.world.directory.mkdir(parents=True)
        self._chance = chance
        self._longest_s = longest_s
        self._lives = 0

    def round(self) -> None:
        """Start all four, kill each, and compare what is there with what was recorded."""
        witness, first = Witness(), self._lives * _LIFE_NUMBERS
        self._lives += 1
        works: Sequence[Callable[[], None]] = (
            lambda: _record(self.world, witness, first),
            *(
                lambda work=work: _again(work, self.world)
                for work in (recovering, archiving_here, shipping)
            ),
        )
        pids = dict(zip(KINDS, map(_started, works), strict=True))
        begin_s = time.monotonic()
        moments = [self._chance.uniform(0, self._longest_s) for _ in KINDS]
        if self._chance.random() < _AT_ONCE:
            moments = moments[:1] * len(KINDS)
        ends = sorted(zip(moments, KINDS, strict=True))
        for after_s, kind in ends:
            time.sleep(max(0.0, begin_s + after_s - time.monotonic()))
            os.kill(pids[kind], signal.SIGKILL)
            self.kills[kind] += 1
        for kind, pid in pids.items():
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert code == -signal.SIGKILL, f"{kind} ended by itself"
        recorded = Counter(range(first, first + witness.value))
        found = numbers(read(self.world))
        # A record may have been stored, and not yet counted.
        extra = found - (self.expected + recorded)
        assert extra in (Counter(), Counter([first + witness.value])), "repeated, or never recorded"
        self.expected += recorded + extra
        self._check(found)

    def finish(self) -> None:
        """Do all that is left, without kills, and compare everything."""
        for work in (recovering, archiving_here, shipping):
            work(self.world)
        self._check(numbers(read(self.world)))
        check_destination(self.world, self.expected)

    def _check(self, found: Counter[int]) -> None:
        assert found == self.expected, "lost or repeated"
        accepted = sum(verdict.accepted for verdict in proof(self.world))
        assert accepted == self.expected.total(), "verify counts something else"
