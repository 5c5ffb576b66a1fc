"""Kills each step in the life of a directory before each of its calls, and compares all rows.

A directory is recorded into, recovered, shipped to Parquet files, archived with roll-ups, and
rotated. One step after the other is killed before its n-th call of the system or of the shipper's
ledger, for each n. Then `verify` and `TelemetryDB` are asked, the rest of the life goes on, and
directory, archives, roll-ups and destination are compared with what was recorded, row by row.

With `--random`, recorder, recoverer, archiver and shipper work at the same time instead, and are
killed at random moments.

    benchmarks/together.py --every 10
    benchmarks/together.py --random 200
    benchmarks/together.py --write
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from random import Random
from time import gmtime, strftime

from _document import RELIABILITY, put, table
from _machine import describe

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from four_at_once import KINDS, FourAtOnce
from whole_life import ELSEWHERE, HERE, Life, Step

_LIVES = {"archives here": HERE, "archives elsewhere": ELSEWHERE}
_NAME, _RANDOM_NAME = "together", "together at random"


@dataclass
class Result:
    """What was seen of one step: how often it was killed, and what was wrong afterwards."""

    life: str
    step: str
    kills: int = 0
    wrong: int = 0


def _kill(life: Life, number: int, every: int, result: Result) -> None:
    """Kill a step before every so many calls, until it makes no more."""
    for nth in count(1, every):
        try:
            was_killed = life.kill(number, nth)
        except AssertionError as exc:
            sys.stderr.write(f"{result.life}, {result.step}, call {nth}: {exc}\n")
            result.wrong += 1
            was_killed = True
        if not was_killed:
            return
        result.kills += 1


def _results(every: int) -> Iterator[Result]:
    for name, steps in _LIVES.items():
        with tempfile.TemporaryDirectory() as place:
            life = Life(Path(place), steps)
            for number, step in enumerate(steps):
                result = Result(name, f"{number + 1}. {_shown(step)}")
                _kill(life, number, every, result)
                yield result


def _at_random(kills: int, seed: int) -> tuple[str, int]:
    """Kill all four at random; return the table, and how often something was wrong."""
    with tempfile.TemporaryDirectory() as place:
        four, wrong = FourAtOnce(Path(place), Random(seed)), 0
        try:
            while four.kills.total() < kills:
                four.round()
            four.finish()
        except AssertionError as exc:
            sys.stderr.write(f"after {four.kills.total()} kills: {exc}\n")
            wrong = 1
        rows = [(f"kills while {kind}", f"{four.kills[kind]:,}") for kind in KINDS]
        rows += [
            ("observations", f"{four.expected.total():,}"),
            ("lost, repeated or not explained", f"{wrong:,}"),
        ]
    return table(("", ""), rows), wrong


def _shown(step: Step) -> str:
    return step.__name__.partition("_")[0]


def _table(results: Sequence[Result]) -> str:
    heads = ("archives", "step", "killed before so many calls", "lost, repeated or not explained")
    rows = [(each.life, each.step, f"{each.kills:,}", f"{each.wrong:,}") for each in results]
    kills, wrong = (sum(asdict(each)[name] for each in results) for name in ("kills", "wrong"))
    return table(heads, [*rows, ("", "all", f"{kills:,}", f"{wrong:,}")])


def main() -> int:
    """Print the table; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="kill before each so many calls")
    parser.add_argument("--random", type=int, metavar="N", help="kill all four at random, N times")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md")
    options = parser.parse_args()
    logging.disable()
    machine, when = describe(), strftime("%d %B %Y", gmtime())
    if options.random is not None:
        name, given = _RANDOM_NAME, f"--random {options.random} --seed {options.seed}"
        text, wrong = _at_random(options.random, options.seed)
    else:
        name, given = _NAME, f"--every {options.every}"
        results: list[Result] = []
        for result in _results(options.every):
            results.append(result)
            sys.stderr.write(f"{result}\n")
        text, wrong = _table(results), sum(result.wrong for result in results)
    sys.stdout.write(text + "\n")
    if options.write:
        put(RELIABILITY, name, f"{'; '.join(machine)}; {when}; {given}.\n\n{text}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
